"""README.txt of a case file: what it is and how to check it, for whoever unpacks it years from now."""

from __future__ import annotations

from ledger.formats.casefile import CaseFile

_TEXT = """\
云玺卷宗 · Yunxi case file
案号 Case: {case}
制作部门 Department: {department}（{consortium}）

本文件是什么
本案的电子卷宗：记录、附件，以及证明其由谁、何时存证、此后未被改动的材料。内容由制作部门签名。

如何核验
1. 请勿解压，保留原文件。向制作部门以外的单位（联盟管理机构、司法行政机关、见证方）取得信任文件 trust.json 和核验页
   yunxi-verify.html。卷宗内的副本（data/trust.json、verify.html）出自制作部门，不能用来核验它自己。
2. 用浏览器打开核验页，先后拖入信任文件和卷宗文件。无需网络，无需安装。
3. 或运行：python yunxi-verify.pyz 卷宗文件 --trust trust.json
结果逐项说明已证明什么、未证明什么。data/index.pdf（篇幅大的分册，第二册起为 index-002.pdf 等）与 data/index.html
供阅读，本身不证明任何事项；与核验结果不一致的，以核验结果为准。

What this is
The case as one file: records, attachments, and what proves who sealed them, when, and that nothing was changed since.
The department signed all of it.

How to verify it
1. Keep the file as it is; do not unpack it. Ask somebody else than the department (the consortium's office, the
   justice bureau, a witness) for the trust file trust.json and the verifier yunxi-verify.html. The copies in here
   (data/trust.json, verify.html) come from the department and cannot vouch for it.
2. Open the verifier in a browser; drop in the trust file, then the case file. It needs no network and no installation.
3. Or run: python yunxi-verify.pyz CASE-FILE --trust trust.json
The result says what is proven and what is not, item by item. data/index.pdf (a long one is in volumes, from the second
on index-002.pdf and so on) and data/index.html are for reading and prove nothing by themselves; where they say anything
else than the result, the result counts.
"""


def readme(case: CaseFile) -> bytes:
    """The text, in Chinese and English."""
    return _TEXT.format(case=case.case, department=case.department, consortium=case.consortium).encode()
