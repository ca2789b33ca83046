"""One shape for every answer that is no (RFC 9457, `application/problem+json`), and one table of stable codes.

    {"type": "urn:yunxi:problem:CODE", "title": "…", "title_zh": "…", "status": 404, "code": "CODE", "detail": "…",
     "request_id": "…", further members of the code}

`detail` is one sentence that says what to do; it repeats nothing of a record and nothing of a request but names of
members. docs/errors.md explains each code; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ledger import errors
from ledger.errors import Refusal, YunxiError

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a code means to HTTP and to people."""

    status: int
    zh: str
    en: str


CODES: Mapping[str, Kind] = MappingProxyType(
    {
        # -- the request --
        "bad-request": Kind(400, "请求格式不正确", "The request is not what this route takes"),
        "unauthenticated": Kind(401, "未通过身份认证", "The caller is not authenticated"),
        "forbidden": Kind(403, "无权进行此操作", "The caller may not do this"),
        "sign-in-failed": Kind(401, "登录失败", "Signing in failed"),
        "cross-site": Kind(403, "跨站请求被拒绝", "The request comes from another site's page"),
        "provider-refused": Kind(403, "统一身份认证未通过", "The identity provider's answer is not acceptable"),
        "department-suspended": Kind(403, "部门已被暂停", "The department is suspended"),
        "not-found": Kind(404, "不存在", "There is nothing here"),
        "method-not-allowed": Kind(405, "不支持此请求方法", "This route does not take this method"),
        "conflict": Kind(409, "与已有内容冲突", "It contradicts what is there already"),
        "too-large": Kind(413, "请求体过大", "The request is too large"),
        "unsupported-media-type": Kind(415, "不支持的内容类型", "The request's body is of another media type"),
        "rate-exceeded": Kind(429, "请求过于频繁", "Too many requests"),
        # -- extractions --
        "caller-suspended": Kind(403, "请求部门已被暂停", "The caller's department is suspended"),
        "reference-invalid": Kind(422, "依据无效", "The case or inspection does not verify"),
        "reference-unknown": Kind(404, "案件或检查不存在", "The case or inspection does not exist"),
        "reference-closed": Kind(409, "案件或检查已结束", "The case or inspection is closed"),
        "not-a-participant": Kind(403, "不是参与部门", "The department takes no part in it"),
        "subject-not-concerned": Kind(403, "与当事人无关", "It does not concern the subject"),
        "restricted-by-law": Kind(451, "法律限制提供", "The law does not allow it"),
        "no-grant": Kind(403, "没有授权", "There is no grant"),
        "grant-expired": Kind(403, "授权不在有效期内", "The grant is not in force"),
        "grant-revoked": Kind(403, "授权已撤销", "The grant was revoked"),
        "wrong-purpose": Kind(403, "用途不符", "It is for another purpose"),
        "wrong-case-kind": Kind(403, "案件或检查类型不符", "It is for another kind of case or inspection"),
        "unit-not-granted": Kind(403, "所需内容未授权", "A unit is not granted"),
        "extraction-ended": Kind(409, "提取已终止", "The extraction was ended"),
        "page-gone": Kind(410, "页面已不可用", "The page can no longer be made"),
        "page-invalid": Kind(422, "收到的页面未通过验证", "A page that came does not verify"),
        "account-refused": Kind(422, "账号设置不被接受", "The account cannot be made or changed so"),
        # -- recalls and emergencies --
        "emergency-not-allowed": Kind(403, "不允许紧急调取", "The owner does not allow it in an emergency"),
        "emergency-unjustified": Kind(403, "以往紧急调取逾期未说明", "An earlier emergency access was not justified"),
        "second-person-required": Kind(403, "须由另一人说明", "Another person must do this"),
        # -- the citizen's check --
        "link-revoked": Kind(410, "二维码已停用", "The code on the decision was withdrawn"),
        # -- subscriptions --
        "target-not-allowed": Kind(422, "推送地址不被允许", "Webhooks may not be sent to this address"),
        # -- the ledger's refusals --
        "refused": Kind(409, "请求被拒绝", "It was refused"),
        "malformed": Kind(400, "内容不符合格式", "Bytes that do not follow their format"),
        "record-refused": Kind(422, "记录不被接收", "The record is not taken"),
        "key-refused": Kind(403, "密钥不可用", "The key is unknown or outside its validity"),
        "sealed-elsewhere": Kind(
            403, "由终端为本部门加密，本节点不能打开", "A terminal sealed it for its own department"
        ),
        "history-refused": Kind(409, "与已有历史矛盾", "It contradicts the history"),
        "not-proven": Kind(422, "证据未通过验证", "Evidence that does not verify"),
        # -- inspections and cases --
        "number-taken": Kind(409, "编号已被使用", "The number is taken"),
        "proceeding-closed": Kind(409, "案件或检查已结束", "The inspection or case is closed"),
        "not-admitted": Kind(422, "不是联盟成员部门", "A department is not admitted to the consortium"),
        "purpose-unknown": Kind(422, "用途不在清单内", "The purpose is not on the list"),
        # -- the node's state --
        "could-not-run": Kind(503, "节点暂时无法处理", "The node cannot answer now"),
        "provider-unreachable": Kind(503, "无法连接统一身份认证平台", "The identity provider does not answer"),
        "chain-unreachable": Kind(503, "无法连接区块链", "The chain does not answer"),
        "storage-failed": Kind(503, "存储写入失败", "The storage refused"),
        "peer-unreachable": Kind(502, "无法连接对方部门的节点", "Another department's node does not answer"),
        "peer-refused": Kind(502, "对方部门的节点拒绝了请求", "Another department's node refused"),
        "overloaded": Kind(503, "节点繁忙", "The node has too much to do"),
        "stopping": Kind(503, "节点正在停止", "The node is stopping"),
        "internal": Kind(500, "节点内部错误", "The node failed"),
    }
)

_OF_ERRORS: tuple[tuple[type[YunxiError], str], ...] = (
    (errors.Conflict, "conflict"),
    (errors.RecordRefused, "record-refused"),
    (errors.Malformed, "malformed"),
    (errors.KeyRefused, "key-refused"),
    (errors.HistoryRefused, "history-refused"),
    (errors.NotProven, "not-proven"),
    (errors.Refusal, "refused"),
    (errors.ChainUnreachable, "chain-unreachable"),
    (errors.StorageFailed, "storage-failed"),
    (errors.YunxiError, "could-not-run"),
)
"""The first class that fits decides, so the narrower ones come first."""


class Problem(Refusal):
    """An answer that is no. `code` is one of `CODES`; `members` are further members of the problem's JSON object.

    `retry_after`, in whole seconds, also becomes the header of that name.
    """

    def __init__(self, code: str, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.code = code  # type: ignore[misc]  # one class for all codes of the table
        self.kind = CODES[code]
        self.members = members

    def to_json(self, request_id: str | None = None) -> dict[str, Any]:
        """The problem as a JSON object."""
        body = {
            "type": f"urn:yunxi:problem:{self.code}",
            "title": self.kind.en,
            "title_zh": self.kind.zh,
            "status": self.kind.status,
            "code": self.code,
            "detail": str(self),
            **self.members,
        }
        return body if request_id is None else body | {"request_id": request_id}


def problem_of(error: YunxiError) -> Problem:
    """The problem that says what `error` says; a Problem is its own."""
    if isinstance(error, Problem):
        return error
    code = error.code if error.code in CODES else next(code for kind, code in _OF_ERRORS if isinstance(error, kind))
    reason = getattr(error, "reason", None) if isinstance(error, errors.RecordRefused) else None
    if code in ("could-not-run", "storage-failed"):
        # their sentences are for whoever runs the node: they name files and databases
        return Problem(code, "the node cannot answer now: try again later, or ask whoever runs it")
    return Problem(code, str(error), **({"reason": reason} if reason else {}))
