"""The sentences of a case file's index, Chinese and English."""

from __future__ import annotations

from typing import Final

from ledger.paper.parts import Bilingual
from ledger.verify.words import Moment, say

TITLE: Final = Bilingual("卷宗目录", "Case file index")

HOW_TITLE: Final = Bilingual(
    "怎样核验本卷宗（书记员用）",
    "How to verify this case file (for the clerk)",
)
HOW: Final = (
    Bilingual(
        "卷宗文件（.zip）可以打开查看，但须保留原件。以 .yunxi-sealed 结尾的，先由本院信息部门解密。",
        "You may look into the case file (.zip), but keep it as it came. If its name ends in .yunxi-sealed, have your "
        "IT staff decrypt it first.",
    ),
    Bilingual(
        "向提交部门以外的单位（联盟管理机构、司法行政机关、见证方）索取核验页 yunxi-verify.html 和信任文件 trust.json"
        "；本院信息部门可能已有。卷宗内的副本出自提交方，不能用来核验它自己。",
        "Ask somebody else than the department (the consortium's office, the justice bureau, a witness) for the "
        "verifier yunxi-verify.html and the trust file trust.json; your IT staff may have both. The copies in the "
        "case file come from the party itself and cannot vouch for it.",
    ),
    Bilingual(
        "请该单位用您自行查得的电话（或者当面、书面）告知 trust.json 的 SHA-256 校验值（64 位），并记下来。",
        "Have them tell you the SHA-256 value of trust.json (64 characters), over a telephone number that you looked "
        "up yourself, in person or on paper, and write it down.",
    ),
    Bilingual(
        "双击打开 yunxi-verify.html（Chrome、Edge 137，Firefox 129，Safari 17 或更新版本），可以断网。把 trust.json 拖"
        "入第一步，将页面显示的校验值与您记下的逐字核对，或者输入由页面比对；不同的，停止核验，并通知该单位。",
        "Open yunxi-verify.html with a double click (Chrome or Edge 137, Firefox 129, Safari 17, or newer); the "
        "network may be off. Drop trust.json into step 1. Compare the value shown with yours, or type yours in; if "
        "they differ, stop and tell them.",
    ),
    Bilingual(
        "把整个卷宗文件（.zip）拖入第二步，等待结果；文件很大的，可能需要数分钟。",
        "Drop the whole case file (.zip) into step 2 and wait; a large file takes some minutes.",
    ),
    Bilingual(
        "在第三步看结论和各项核验，打印附卷。“可以载入笔录的结论”“未能证明的事项”可以直接读入笔录。",
        'Step 3 shows the verdict and every check: print it. "What can be said" and "What is NOT proven" can be '
        "read into the record.",
    ),
    Bilingual(
        "与本目录核对案号、部门、项数。核对某一项的，用手机扫本目录末尾该项的二维码（内为文字，不是网址），其记录编号"
        "、叶哈希应当与核验页所列相同。",
        "Compare case, department and number of items with these pages. To compare one item, scan its QR code at the "
        "end of this index (text, no web address): record id and leaf hash must be those that the verifier lists.",
    ),
)

VERDICTS_TITLE: Final = Bilingual("结论是什么意思", "What the verdict means")
BAD_MEANS: Final = Bilingual(
    "至少一处不符，并指明文件和项号。先核对信任文件，再请部门重新提交；查明前不宜采信。",
    "Something does not fit; the file and the item are named. Check the trust file, then ask the department to hand in "
    "again; do not rely on it before it is explained.",
)
VERDICTS: Final = (
    (
        Bilingual("核验通过", "VERIFIED"),
        Bilingual(
            "签署以来一字未改；各项记录由所载部门至迟在所载时间存证。此前是否真实，不作证明。",
            "Nothing changed since the department signed, and every record was sealed by the department named, no "
            "later than stated. Whether a record was true before that is not proven.",
        ),
    ),
    (
        Bilingual("核验不通过", "NOT VERIFIED"),
        BAD_MEANS,
    ),
    (
        Bilingual("未能核验", "Could not run"),
        Bilingual(
            "缺少文件、浏览器太旧等，没有得出任何结论。按页面提示处理后再试。",
            "A file is missing, the browser is too old: nothing was decided. Do what the page says and try again.",
        ),
    ),
    (
        Bilingual("缺失或者部分缺失", "in part or not there"),
        Bilingual(
            "有的项没有这种证明（例如没有时间戳）。不是错误，由法庭斟酌。",
            "Some items lack that proof (no time stamp, say). It is no error; the court weighs it.",
        ),
    ),
)

CASE: Final = Bilingual("案号", "Case")
DEPARTMENT: Final = Bilingual("提交部门", "Department")
CONSORTIUM: Final = Bilingual("联盟", "Consortium")
FOR: Final = Bilingual("提交给", "Made for")
COVERS: Final = Bilingual("内容", "Contents")
AS_OF: Final = Bilingual("最后存证", "Last sealed")
PRINTED: Final = Bilingual("打印本（分册）", "To print, in volumes")
TRUST_COPY: Final = Bilingual("trust.json 副本", "copy")
TRUST_WARNING: Final = Bilingual("SHA-256，仅供参考，见第 3 步", "SHA-256, for information only, see step 3")
NOT_STATED: Final = Bilingual("未载明", "not stated")
NONE: Final = Bilingual("无。", "None.")

STEPS: Final = Bilingual("案件步骤", "Steps of the case")
GAPS: Final = Bilingual("缺口", "Gaps")
GAPS_NOTE: Final = Bilingual(
    "下列内容按理应当有而本卷宗没有，由提交部门自行说明。未列入的缺口由核验程序另行指出。",
    "What a reader would look for and does not find here, in the department's words. The verifier names others that "
    "it finds.",
)
NO_GAPS: Final = Bilingual(
    "提交部门未说明任何缺口。",
    "The department states no gaps.",
)
EVIDENCE: Final = Bilingual("证据清单", "List of evidence")
EVIDENCE_BEFORE: Final = Bilingual(
    "证据清单（一）：决定作出以前的证据", "List of evidence 1: what existed before the decision"
)
BEFORE_NOTE: Final = Bilingual(
    "决定签署时已将下列证据的清单固定，见“决定及其固定的清单”。",
    'Signing the decision froze the list of these; see "Decisions and what they froze".',
)
EVIDENCE_AFTER: Final = Bilingual(
    "证据清单（二）：决定作出以后的证据", "List of evidence 2: what came after the decision"
)
AFTER_NOTE: Final = Bilingual(
    "下列证据不在决定固定的清单内，不能用于证明该决定合法（《最高人民法院关于行政诉讼证据若干问题的规定》第六十条第一"
    "项）。",
    "These are not on the list that the decision froze and cannot prove its legality (Supreme People's Court, rules "
    "on evidence in administrative litigation, article 60(1)).",
)
UNDECIDED_NOTE: Final = Bilingual(
    "本卷宗没有固定清单的决定，因此不区分决定前后。",
    "No decision in this file froze a list, so nothing is told apart as before or after it.",
)
OWN_WORDS: Final = Bilingual(
    "名称、来源、证明目的、日期、页码为提交部门的说明，由其签署，核验程序不对其内容作出证明。",
    "Name, source, purpose, date and page are the department's own words, signed by it; the verifier proves nothing "
    "of them.",
)
CUSTODY: Final = Bilingual("保管与派生经过", "Custody and derivation")
ATTACHMENTS: Final = Bilingual("附件及其校验值", "Attachments and their digests")
DECISIONS: Final = Bilingual("决定及其固定的清单", "Decisions and what they froze")
ITEM_FILES: Final = Bilingual("各项记录的编号与文件", "Ids and files of all items")
ITEMS: Final = Bilingual("各项记录的编号与二维码", "Ids and QR codes of all items")
ITEMS_NOTE: Final = Bilingual(
    "二维码内为文字：案号、项号、记录编号、叶哈希，与右侧所列相同。",
    "Each code holds text: case, item, record id and leaf hash, the same as printed beside it.",
)
SIGNED: Final = Bilingual(
    "提交部门（签名或者盖章）：____________________        提交日期：________年____月____日",
    "Department (signature or seal), date handed in",
)
REPLACED: Final = Bilingual(
    "〔U+…〕代表本目录字体没有的字，或者不可见、会改变书写方向的字符，“U+”后为其统一码（Unicode）编号。原文见核验页和"
    "index.html。",
    "〔U+…〕 stands for a character that the font of these pages does not have, that is unseen or that turns the "
    "direction of writing; its Unicode number follows. The verifier and index.html show the text itself.",
)
AMENDS_ELSEWHERE: Final = Bilingual("更正或者撤回不在本卷宗内的记录", "corrects or withdraws a record that is not here")
READING_ONLY: Final = Bilingual(
    "本目录供阅读，由提交部门制作。与核验页所列不一致的，以核验页为准。",
    "This index is for reading and made by the department. Where the verifier lists anything else, the verifier "
    "counts.",
)
AS_ITEMS: Final = Bilingual("所载记录在本卷宗内另列为项", "its records are items of their own")
FORGOTTEN: Final = Bilingual(
    "内容已依法销毁，仅能证明其存在", "content destroyed under the law; only its existence is proven"
)
NO_RECEIPT: Final = Bilingual("尚无回执", "no receipt yet")
NOT_GIVEN: Final = Bilingual("未提交", "not given out")

NUMBER: Final = Bilingual("编号", "No.")
NAME: Final = Bilingual("名称", "Name")
SOURCE: Final = Bilingual("来源", "Source")
PURPOSE: Final = Bilingual("证明目的", "Purpose of proof")
DATE: Final = Bilingual("日期", "Date")
RECORD_ID: Final = Bilingual("记录编号", "record id")
LEAF: Final = Bilingual("叶哈希", "leaf hash")
PAGE: Final = Bilingual("页码", "Page")
SEALED: Final = Bilingual("存证时间", "Sealed")
WHO: Final = Bilingual("部门", "Department")
WHEN: Final = Bilingual("决定前后", "Decision")
MEDIA: Final = Bilingual("类型、大小", "Type, size")
DIGEST: Final = Bilingual("SHA-256", "SHA-256")
COUNT: Final = Bilingual("固定项数", "Entries frozen")
MANIFEST: Final = Bilingual("清单文件与校验值", "Manifest and its digest")
ROOT: Final = Bilingual("当时的日志大小与根", "Log size and root then")
WHAT: Final = Bilingual("说明", "What is missing")
RECORD: Final = Bilingual("记录", "Record")
CODE: Final = Bilingual("二维码", "QR code")
BEFORE: Final = Bilingual("以前", "before")
AFTER: Final = Bilingual("以后", "after")
THE_DECISION: Final = Bilingual("决定", "the decision")
FILES: Final = Bilingual("文件", "Files")


def amended_by(n: int, sealed_at: int) -> Bilingual:
    """Of an item that item `n`, sealed at that time, corrects or withdraws."""
    at = Moment(sealed_at)
    return Bilingual(
        f"已由第 {n} 项（{say(at, 'zh')}）更正或者撤回",
        f"corrected or withdrawn by item {n}, {say(at, 'en')}",
    )


def amends(n: int | None) -> Bilingual:
    """Of an item that corrects or withdraws item `n`, or one that is not in the case file."""
    return AMENDS_ELSEWHERE if n is None else Bilingual(f"更正或者撤回第 {n} 项", f"corrects or withdraws item {n}")
