"""Why the recipe refuses, in words a clerk can read out. English is the error's message; Chinese rides as its "
"note."""

from __future__ import annotations

from dataclasses import dataclass

from ledger.errors import (
    AnchorInvalid,
    CaseFileInvalid,
    CheckpointInvalid,
    CouldNotRun,
    DisclosureInvalid,
    InclusionInvalid,
    KeyRefused,
    Malformed,
    NotProven,
    TimestampInvalid,
    TrustRefused,
    YunxiError,
)
from ledger.verify.words import Value, clean, fill


@dataclass(frozen=True, slots=True)
class _Reason:
    error: type[YunxiError]
    en: str
    zh: str


_REASONS = {
    "key-of-another": _Reason(
        KeyRefused,
        "The record says that it is from {claimed}, but the key that signed it belongs to {owner}. Do not rely on it.",
        "记录自称出自“{claimed}”，但签署所用密钥属于“{owner}”，不应采信。",
    ),
    "key-not-valid": _Reason(
        KeyRefused,
        "The record says that it was sealed at {at}, when the key of {owner} that signed it was not valid "
        "({validity}).",
        "记录所载存证时间为{at}，而签署所用的{owner}密钥当时不在有效期内（{validity}）。",
    ),
    "log-of-another": _Reason(
        CheckpointInvalid,
        "The receipt is from the log of {other}, but the record is from {issuer}. Ask {issuer} for its own receipt.",
        "回执出自{other}的日志，而记录出自{issuer}，二者不符。请向{issuer}索取对应的回执。",
    ),
    "log-unknown": _Reason(
        CheckpointInvalid,
        "The receipt is from a log that the trust file does not name ({origin}). Check that the trust file is right.",
        "回执出自信任文件未载明的日志（{origin}）。请核对信任文件是否正确。",
    ),
    "cosignature-wrong": _Reason(
        CheckpointInvalid,
        "The receipt carries a signature in the name of witness {witness} that is wrong. Fetch the receipt again.",
        "回执中以见证方“{witness}”名义作出的签名核验不一致。请重新索取回执。",
    ),
    "witness-missing": _Reason(
        CheckpointInvalid,
        "The trust file requires the confirmation of witness {witness}, and the receipt does not have it.",
        "信任文件要求必须有见证方“{witness}”的确认，而回执中没有。",
    ),
    "quorum": _Reason(
        CheckpointInvalid,
        "The trust file asks for {quorum:witness,witnesses}, each of another operator and none of the operator of the "
        "log, and the receipt has the confirmation of {found}. Fetch a newer receipt.",
        "信任文件要求至少{quorum}个运营单位互不相同且非该日志运营单位的见证方确认，回执中只有{found}个。请索取更新的回执。",
    ),
    "anchor-chain": _Reason(
        AnchorInvalid,
        "The receipt names an anchor on chain {found}, but the trust file's chain is {expected}.",
        "回执所载锚定位于编号{found}的区块链，而信任文件载明的区块链编号为{expected}，二者不符。",
    ),
    "anchor-contract": _Reason(
        AnchorInvalid,
        "The receipt names an anchor in contract {found}, but the trust file's contract is {expected}.",
        "回执所载锚定位于合约{found}，而信任文件载明的合约为{expected}，二者不符。",
    ),
    "evidence-embedded": _Reason(
        AnchorInvalid,
        "The trust file's chain is run by the operator of the ledger alone and has no validators. "
        "For such a chain no proof by validators exists, so this file proves nothing.",
        "信任文件载明的区块链由账本运营方单方运行，没有验证节点，不存在由验证节点作出的证明，本文件不能证明任何事项。",
    ),
    "evidence-no-rule": _Reason(
        TrustRefused,
        "The trust file does not say how many of the chain's validators must have sealed a block, so the evidence "
        "cannot be judged. Ask for a trust file that names the validators.",
        "信任文件未载明须有多少个验证节点签封，无法据以核验该锚定证据。请索取载明验证节点的信任文件。",
    ),
    "evidence-other-log": _Reason(
        AnchorInvalid,
        "The anchor evidence is for another log than that of {department}. Ask for the evidence of this receipt.",
        "该锚定证据并非针对{department}的日志。请索取与该回执对应的锚定证据。",
    ),
    "evidence-other-state": _Reason(
        AnchorInvalid,
        "The anchor evidence is for another state of the log ({found:entry,entries}) than the receipt "
        "({expected:entry,entries}). "
        "Ask for the evidence of this receipt.",
        "该锚定证据所针对的日志状态（{found}条记录）与回执（{expected}条记录）不符。请索取与该回执对应的锚定证据。",
    ),
    "evidence-header": _Reason(
        AnchorInvalid,
        "A block in the anchor evidence does not have the form that this chain's blocks have: it was changed, "
        "or comes from a chain of another kind.",
        "锚定证据中的区块不符合该区块链的规定格式：已被改动，或者出自其他种类的区块链。",
    ),
    "evidence-not-linked": _Reason(
        AnchorInvalid,
        "Block {block} in the anchor evidence does not follow the block before it: "
        "one of the two was changed or replaced.",
        "锚定证据中的第{block}号区块与其前一区块不相衔接：二者之一已被改动或者替换。",
    ),
    "evidence-seal": _Reason(
        AnchorInvalid,
        "A seal on block {block} in the anchor evidence is not by any validator that the trust file names: "
        "the block or the seal was changed, or a stranger made it.",
        "锚定证据中第{block}号区块上的签封并非出自信任文件载明的验证节点：区块或者签封被改动，或者系他人所作。",
    ),
    "evidence-seal-twice": _Reason(
        AnchorInvalid,
        "Block {block} in the anchor evidence carries two seals of the same validator, which no honest block does.",
        "锚定证据中第{block}号区块上有同一验证节点的两个签封，正常的区块不会如此。",
    ),
    "evidence-threshold": _Reason(
        AnchorInvalid,
        "The trust file asks for the seals of {threshold} different validators, and the anchor evidence has those of "
        "{found}. Fetch it again later.",
        "信任文件要求至少{threshold}个不同的验证节点签封，锚定证据中只有{found}个。请稍后重新索取。",
    ),
    "evidence-other-block": _Reason(
        AnchorInvalid,
        "The anchor evidence is about block {found}, but the receipt names block {expected}.",
        "锚定证据所载区块为{found}，而回执所载区块为{expected}，二者不符。",
    ),
    "evidence-transaction": _Reason(
        AnchorInvalid,
        "The anchor evidence does not show that its transaction stands in the block: it was changed or is of another "
        "block.",
        "锚定证据不能证明所附交易载于该区块：证据被改动，或者取自其他区块。",
    ),
    "evidence-other-transaction": _Reason(
        AnchorInvalid,
        "The anchor evidence is about transaction {found}, but the receipt names transaction {expected}.",
        "锚定证据所载交易为{found}，而回执所载交易为{expected}，二者不符。",
    ),
    "evidence-receipt": _Reason(
        AnchorInvalid,
        "The anchor evidence does not show what became of the transaction in the block: "
        "it was changed or is of another block.",
        "锚定证据不能证明该交易在该区块中的执行结果：证据被改动，或者取自其他区块。",
    ),
    "evidence-event": _Reason(
        AnchorInvalid,
        "The transaction in the anchor evidence did not make contract {contract} accept this state of the log "
        "({size:entry,entries}).",
        "锚定证据所载交易并未使合约{contract}接受该日志状态（{size}条记录）。",
    ),
    "evidence-alone": _Reason(
        AnchorInvalid,
        "This anchor evidence belongs to none of the receipts handed in. Hand in the record and its .tlog-proof file "
        "as well.",
        "该锚定证据与所提交的各份回执均不对应。请一并提交记录及其 .tlog-proof 回执文件。",
    ),
    "evidence-unverified": _Reason(
        NotProven,
        "This anchor evidence belongs to the receipt {receipt}, but that receipt itself is not verified.",
        "该锚定证据与回执“{receipt}”对应，但该回执本身未通过核验。",
    ),
    "unlogged": _Reason(
        NotProven,
        "No receipt for this record was handed in, so it is not proven that the record stands in the "
        "department's log. "
        "Hand in its .tlog-proof file as well.",
        "未提交该记录的回执，不能证明记录已载入部门的日志。请一并提交其 .tlog-proof 回执文件。",
    ),
    "receipt-alone": _Reason(
        InclusionInvalid,
        "This receipt belongs to none of the records handed in. Hand in the record's .sd-jwt file as well.",
        "该回执与所提交的各份记录均不对应。请一并提交对应的 .sd-jwt 记录文件。",
    ),
    "file-unknown": _Reason(
        DisclosureInvalid,
        "This file is neither a record nor a receipt nor anchor evidence, "
        "and no verified record names a file with this content: "
        "it was changed, or it belongs to another record, or the part that names it is withheld.",
        "该文件既不是记录、回执，也不是锚定证据，且核验通过的记录均未载明内容与之相同的附件："
        "可能已被改动，或者属于其他记录，或者载明该附件的部分未予出示。",
    ),
    "file-empty": _Reason(
        DisclosureInvalid,
        "This file is empty: it was not copied whole. Get it again from whoever handed it in.",
        "该文件为空（0字节）：可能没有复制完整，请向提交方重新索取。",
    ),
    "time-alone": _Reason(
        TimestampInvalid,
        "This is a time stamp, but no receipt was handed in whose state of the log it is over. "
        "Hand in the receipt that it was issued with.",
        "该文件是时间戳，但未提交与之对应的回执（其所载日志状态须与时间戳所认证者相同）。请一并提交对应的回执。",
    ),
    "time-unverified": _Reason(
        TimestampInvalid,
        "This time stamp is over the state of the log in receipt {receipt}, but that receipt is not verified.",
        "该时间戳对应回执“{receipt}”所载的日志状态，但该回执本身未通过核验。",
    ),
    "renewals-alone": _Reason(
        TimestampInvalid,
        "These are renewals of a time stamp, but the time stamp that they renew was not handed in.",
        "该文件是时间戳的续期证明，但未提交其所续期的时间戳。",
    ),
    "renewals-unverified": _Reason(
        TimestampInvalid,
        "These are renewals of the time stamp {token}, but that time stamp itself is not verified.",
        "该文件是时间戳“{token}”的续期证明，但该时间戳本身未通过核验。",
    ),
    "attachment-unverified": _Reason(
        NotProven,
        "This is the attachment {name} that record {record} names, but that record itself is not verified.",
        "该文件与记录{record}所载附件“{name}”内容相同，但该记录本身未通过核验。",
    ),
    "no-file": _Reason(
        CouldNotRun,
        "There is no file {file}. Check its name and folder.",
        "找不到文件“{file}”。请核对文件名和所在文件夹。",
    ),
    "not-a-file": _Reason(
        CouldNotRun,
        "{file} is a folder or a device, not a file. Name the files in it one by one.",
        "“{file}”是文件夹或者设备，不是文件。请逐一指定其中的文件。",
    ),
    "unreadable": _Reason(
        CouldNotRun,
        "{file} cannot be read ({cause}). Check that you may open it.",
        "无法读取文件“{file}”（{cause}）。请检查是否有权打开该文件。",
    ),
    "unwritable": _Reason(
        CouldNotRun,
        "The report could not be written ({cause}): do not take what was written for an answer. Try again with another "
        "place to write to.",
        "无法写出核验报告（{cause}）：已写出的部分不是核验结论。请换一个输出位置后重试。",
    ),
    "interrupted": _Reason(
        CouldNotRun,
        "The program was stopped before it was done: nothing was decided. Start it again.",
        "程序在完成之前被中止，未作任何判断。请重新运行。",
    ),
    "memory": _Reason(
        CouldNotRun,
        "This machine has too little free memory for these files: nothing was decided. Hand them in one by one, or use "
        "another machine.",
        "本机可用内存不足以核验这些文件，未作任何判断。请逐一核验，或者换用其他电脑。",
    ),
    "usage": _Reason(
        CouldNotRun,
        "The command is not complete or not right: {cause}. Try --help.",
        "命令不完整或者有误：{cause}。可使用 --help 查看用法。",
    ),
    "signature-time": _Reason(
        KeyRefused,
        "The case file says that it was signed at {at}, when the key of {owner} that signed it was not valid "
        "({validity}).",
        "卷宗所载签署时间为{at}，而签署所用的{owner}密钥当时不在有效期内（{validity}）。",
    ),
    "case-file-sealed": _Reason(
        CouldNotRun,
        "This case file is encrypted to its recipient. Have your IT staff open it first with `yunxi casefile open`, "
        "then verify the .zip file that this gives. Where it does not open, it was made for somebody else: ask the "
        "department.",
        "该卷宗已加密，仅收件方可以打开。请由本院信息部门先用 yunxi casefile open 命令打开，再核验所得的 .zip 文件；"
        "打不开的，可能是误送其他单位的卷宗，请询问提交部门。",
    ),
    "attachment-other": _Reason(
        DisclosureInvalid,
        "No file that record {record} names has this content ({size:byte,bytes}, SHA-256 {sha256}): "
        "it was changed or belongs to another record.",
        "记录{record}所载附件中，没有内容与该文件相同者（{size}字节，SHA-256：{sha256}）：可能已被改动，"
        "或者属于其他记录。",
    ),
}

_CASE = {
    # --- the zip ---
    "zip-large": {"en": "It is larger than a case file can be.", "zh": "超出卷宗允许的大小。"},
    "zip-end": {
        "en": "It does not end as a case file ends: it was cut short, or something was added.",
        "zh": "文件结尾不符合卷宗格式：可能被截短，或者附加了其他内容。",
    },
    "zip-many": {"en": "It holds more files than a case file can have.", "zh": "所含文件数量超出卷宗允许的范围。"},
    "zip-gap": {
        "en": "It holds bytes that belong to none of its files: something was hidden in it, put before it or removed.",
        "zh": "含有不属于其中任何文件的内容：可能被夹带、前置或者删除了内容。",
    },
    "zip-overlap": {
        "en": "Two files in it share the same bytes, so that different programs would show different contents.",
        "zh": "其中有文件相互重叠，不同程序可能显示不同的内容。",
    },
    "zip-directory": {"en": "Its list of files cannot be read.", "zh": "其文件目录无法读取。"},
    "zip-duplicate": {
        "en": "The same file stands in it twice, so that different programs would show different contents.",
        "zh": "同一文件在其中出现两次，不同程序可能显示不同的内容。",
    },
    "zip-order": {
        "en": "Its files are not in the order that case files have: it was packed again with another program. "
        "Verify the file as it came.",
        "zh": "文件次序不符合卷宗格式：系用其他程序重新打包。请核验收到的原件。",
    },
    "zip-header": {
        "en": "What is said of this file in two places does not agree, or is not as case files have it: "
        "the case file was changed, or packed again with another program. Verify the file as it came.",
        "zh": "两处对该文件的说明不一致，或者不符合卷宗格式：卷宗被改动，或者系用其他程序重新打包。请核验收到的原件。",
    },
    "zip-encrypted": {"en": "The file is encrypted with a password.", "zh": "该文件带有密码加密。"},
    "zip-method": {
        "en": "The file is compressed; case files store all files as they are. "
        "The case file was packed again with another program. Verify the file as it came.",
        "zh": "该文件经过压缩，而卷宗中的文件均按原样存放：系用其他程序重新打包。请核验收到的原件。",
    },
    "zip-kind": {
        "en": "This is a link or a folder, or has rights that files in a case file do not have.",
        "zh": "该项是链接或者文件夹，或者带有卷宗中文件不具有的属性。",
    },
    "zip-name": {
        "en": "A file has a name that no file of a case file can have.",
        "zh": "有文件使用了卷宗中不可能有的文件名。",
    },
    "zip-crc": {
        "en": "The file is damaged: its check sum is wrong.",
        "zh": "该文件已损坏：校验值不一致。",
    },
    # --- the bag ---
    "file-missing": {"en": "The file is missing.", "zh": "缺少该文件。"},
    "file-large": {"en": "The file is larger than such a file can be.", "zh": "该文件超出此类文件允许的大小。"},
    "file-stranger": {"en": "Case files have no file of this name.", "zh": "卷宗中不应有该名称的文件。"},
    "file-unlisted": {
        "en": "The file is not in the case file's own list of files: it was added.",
        "zh": "卷宗自身的文件清单未载有该文件：系事后加入。",
    },
    "file-unnamed": {
        "en": "No item of the case file names this file.",
        "zh": "卷宗目录中没有任何一项载有该文件。",
    },
    "bag-declaration": {"en": "It is not the declaration that case files have.", "zh": "该声明文件不符合卷宗格式。"},
    "bag-tags": {
        "en": "It does not list exactly the files that it must list.",
        "zh": "该清单所列文件与应列文件不一致。",
    },
    "bag-digest": {
        "en": "The content of the file is not what the list of files says: it was changed or replaced.",
        "zh": "该文件的内容与清单所载校验值不一致：已被改动或者替换。",
    },
    "bag-info": {
        "en": "It names another case, or another number of files or bytes, than there are.",
        "zh": "所载案件、文件数量或者字节数与实际不一致。",
    },
    # --- what the case file says ---
    "case-consortium": {
        "en": "The case file is from another consortium than the trust file. Check that the trust file is right.",
        "zh": "卷宗与信任文件分属不同的联盟。请核对信任文件是否正确。",
    },
    "case-department": {
        "en": "The trust file does not know the department that the case file is from. "
        "Check that the trust file is right.",
        "zh": "信任文件未载明卷宗所称的部门。请核对信任文件是否正确。",
    },
    "signature-key": {
        "en": "The trust file does not have the key that signed the case file, or has it for another use. "
        "Check that the trust file is right.",
        "zh": "信任文件中没有签署卷宗所用的密钥，或者该密钥另有用途。请核对信任文件是否正确。",
    },
    "signature-wrong": {
        "en": "The signature on the case file is wrong: the case file was changed after it was signed, "
        "or the department did not sign it.",
        "zh": "卷宗上的签名核验不一致：卷宗在签署后被改动，或者并非所称部门签署。",
    },
    "signature-department": {
        "en": "The case file was signed with the key of another department than the one that it is from.",
        "zh": "签署卷宗所用密钥不属于卷宗所称的部门。",
    },
    "item-record": {
        "en": "The record is another one than the case file says (number, type or department).",
        "zh": "该记录与卷宗目录所载（编号、类型或者部门）不一致。",
    },
    "item-leaf": {
        "en": "The record's digest is another one than the case file says.",
        "zh": "该记录的校验值与卷宗目录所载不一致。",
    },
    "item-index": {
        "en": "The case file says another place in the log than the receipt proves, or one beyond what it covers.",
        "zh": "卷宗目录所载的日志位置与回执所证明的不一致，或者超出卷宗涵盖的范围。",
    },
    "item-sealed-at": {
        "en": "The case file says another time of sealing than the record.",
        "zh": "卷宗目录所载存证时间与记录不一致。",
    },
    "item-role": {
        "en": "The case file gives the record another role in the case than its type has.",
        "zh": "卷宗目录所载该记录在案件中的作用与其类型不符。",
    },
    "index-lacks": {
        "en": "The index for reading (index.html) does not name this item as the signed list does: do not read it.",
        "zh": "供阅读的网页目录没有如签署的目录那样载明该项，请勿采用。",
    },
    "item-amends": {
        "en": "The case file says wrongly which record this one corrects or withdraws, or that it does not.",
        "zh": "卷宗目录关于该记录更正或者撤回哪项记录的记载与记录本身不一致。",
    },
    "item-case": {"en": "The record is of another case.", "zh": "该记录属于其他案件。"},
    "item-forgotten": {
        "en": "The case file says that the record's content was destroyed, but it is shown.",
        "zh": "卷宗目录称该记录内容已销毁，而实际予以出示。",
    },
    "item-attachments": {
        "en": "The case file lists other attachments than the record names.",
        "zh": "卷宗目录所列附件与记录所载不一致。",
    },
    "item-receipt": {
        "en": "There is anchor evidence or a time stamp for the record, but no receipt that it could belong to.",
        "zh": "附有该记录的锚定证据或者时间戳，但没有与之对应的回执。",
    },
    "item-before": {
        "en": "The case file says wrongly whether this existed when the decision was made.",
        "zh": "卷宗目录关于该项在作出决定时是否已经存在的记载不实。",
    },
    "attachment-differs": {
        "en": "This file is not the attachment that the record names: it was swapped or changed.",
        "zh": "该文件不是记录所载的附件：被调换或者改动。",
    },
    "log-forked": {
        "en": "Two receipts of this case file show two different contents of the same log at the same size: "
        "the department signed two versions of its log.",
        "zh": "卷宗中的两份回执显示同一日志在同一条数时内容不同：该部门签署了两个版本的日志。",
    },
    # --- what was decided upon ---
    "decision-missing": {
        "en": "The decision froze the evidence that existed, but the case file does not list what it froze.",
        "zh": "该决定固定了当时已有的证据，而卷宗未列明所固定的内容。",
    },
    "decision-differs": {
        "en": "The list of what the decision froze is not the one that the decision's record names.",
        "zh": "所附的证据固定清单与该决定记录所载的不一致。",
    },
    "decision-foreign": {
        "en": "The list belongs to no decision of the exporting department that is verified here.",
        "zh": "该清单不对应导出部门的任何一项已通过核验的决定。",
    },
    "frozen-missing": {
        "en": "An entry that the decision froze is not in the case file as it was: evidence was left out or replaced.",
        "zh": "决定所固定的记录中，有一条在卷宗中缺失或者被替换：证据被隐去或者调换。",
    },
    "frozen-unlisted": {
        "en": "The record is said to stand in the log before the decision, but the decision did not freeze it.",
        "zh": "该记录被称在决定之前已载入日志，但决定并未予以固定。",
    },
}

_BY_CODE = {
    "malformed": {
        "en": "The file does not have the required format ({what}). It may be damaged, incomplete or changed, or made "
        "for a newer version of this verifier: then get the newest.",
        "zh": "文件不符合规定格式（{what}），可能已损坏、不完整或者被改动；也可能需要更新版本的核验程序，请换最新版。",
    },
    "key-refused": {
        "en": "The key that signed the record is not accepted: the trust file does not have it, or has it for another "
        "use than signing records. Check that the trust file is the right one.",
        "zh": "签署所用密钥不被认可：信任文件中没有该密钥，或者该密钥不是用于签署记录的。请核对信任文件是否正确。",
    },
    "trust-refused": {
        "en": "The trust file cannot be used: it is empty, contradicts itself, or names nobody who could be trusted.",
        "zh": "信任文件不能作为核验依据：内容为空、自相矛盾，或者没有载明可信的部门。",
    },
    "signature-invalid": {
        "en": "The signature on the record is wrong: the record was changed after it was signed, "
        "or the department that it names did not sign it.",
        "zh": "记录上的签名核验不一致：内容在签署后被改动，或者并非所称部门签署。",
    },
    "disclosure-invalid": {
        "en": "What is shown is not what was signed: a part does not belong to this record, was changed, "
        "or is shown twice.",
        "zh": "所出示的内容与记录签署时不一致：其中有的部分不属于本记录、已被改动，或者重复出示。",
    },
    "inclusion-invalid": {
        "en": "The receipt does not prove that this record stands in the log: "
        "the record or the receipt was changed, or they do not belong together.",
        "zh": "回执不能证明该记录已载入日志：记录或者回执被改动，或者二者并不对应。",
    },
    "checkpoint-invalid": {
        "en": "The state of the log in the receipt is not validly signed by the department: "
        "the receipt was changed, or the trust file has another key for this log.",
        "zh": "回执中的日志状态未经该部门有效签名：回执被改动，或者信任文件所载的该日志密钥与之不符。",
    },
    "anchor-invalid": {
        "en": "The anchor in the receipt is not what the department signed for this receipt: "
        "it was changed, or taken from another receipt.",
        "zh": "回执中的锚定信息与该部门就本回执签署的内容不一致：锚定信息被改动，或者取自其他回执。",
    },
    "timestamp-invalid": {
        "en": "The time stamp does not hold: it was changed, is over another state of the log, "
        "is not by an authority that the trust file names, or was not renewed in time.",
        "zh": "时间戳核验不一致：被改动，或者所认证的是其他日志状态，或者并非信任文件所载时间戳服务机构签发，"
        "或者未及时续期。",
    },
}

_FORMATS = {
    "statement": {"en": "the signed part of the record", "zh": "记录的签署部分"},
    "statement header": {"en": "the signed part of the record", "zh": "记录的签署部分"},
    "statement payload": {"en": "the signed part of the record", "zh": "记录的签署部分"},
    "disclosure": {"en": "the content shown with the record", "zh": "记录所出示的内容"},
    "disclosure salt": {"en": "the content shown with the record", "zh": "记录所出示的内容"},
    "attachment": {"en": "the record's description of an attachment", "zh": "记录所载的附件说明"},
    "presentation": {"en": "the record", "zh": "记录文件"},
    "tlog-proof": {"en": "the receipt", "zh": "回执"},
    "tlog-proof extra": {"en": "the receipt", "zh": "回执"},
    "tlog-proof index": {"en": "the receipt", "zh": "回执"},
    "tlog-proof path": {"en": "the receipt", "zh": "回执"},
    "note": {"en": "the state of the log in the receipt", "zh": "回执中的日志状态"},
    "note signature": {"en": "the state of the log in the receipt", "zh": "回执中的日志状态"},
    "checkpoint": {"en": "the state of the log in the receipt", "zh": "回执中的日志状态"},
    "tree size": {"en": "the state of the log in the receipt", "zh": "回执中的日志状态"},
    "root hash": {"en": "the state of the log in the receipt", "zh": "回执中的日志状态"},
    "anchor of the receipt": {"en": "the anchor in the receipt", "zh": "回执中的锚定信息"},
    "time-stamp token": {"en": "the time stamp", "zh": "时间戳"},
    "time-stamp renewal": {"en": "the renewals of a time stamp", "zh": "时间戳的续期证明"},
    "anchor evidence": {"en": "the anchor evidence", "zh": "锚定证据"},
    "trust file": {"en": "the trust file", "zh": "信任文件"},
    "case.json": {"en": "the contents of the case file", "zh": "卷宗目录"},
    "signature.jws": {"en": "the signature on the case file", "zh": "卷宗签名"},
    "bag-info.txt": {"en": "the description of the case file", "zh": "卷宗说明"},
    "manifest-sha256.txt": {"en": "the case file's list of files", "zh": "卷宗文件清单"},
    "tagmanifest-sha256.txt": {"en": "the case file's list of files", "zh": "卷宗文件清单"},
    "manifest": {"en": "the list of what a decision froze", "zh": "决定的证据固定清单"},
    "JWK": {"en": "a key in the trust file", "zh": "信任文件中的密钥"},
    "verifier key": {"en": "a key in the trust file", "zh": "信任文件中的密钥"},
}


def refusal(reason: str, **values: Value) -> YunxiError:
    """The error for `reason`, a key of this module's table, ready to be raised."""
    found = _REASONS[reason]
    error = found.error(fill(found.en, "en", values))
    error.add_note(fill(found.zh, "zh", values))
    error.reason = reason
    return error


def explain(error: YunxiError, lang: str) -> str:
    """A sentence or two in `lang`. Errors of the formats below are said by their code, for they speak to technicians;
    where their own words point at a place in a file, these follow as a technical note."""
    notes: list[str] = getattr(error, "__notes__", [])
    if notes:
        return str(error) if lang == "en" else notes[0]
    if isinstance(error, CaseFileInvalid):
        return _CASE[error.reason][lang]
    if error.code not in _BY_CODE:
        return str(error)
    what = _FORMATS.get(error.what, {}).get(lang, error.what) if isinstance(error, Malformed) else ""
    sentence = _BY_CODE[error.code][lang].format(what=what)
    if error.code not in ("malformed", "trust-refused"):
        return sentence
    note = clean(str(error))
    return f"{sentence} Technical note: {note}" if lang == "en" else f"{sentence}技术说明（英文）：{note}"
