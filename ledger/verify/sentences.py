"""What is proven and what is not, in sentences that a clerk can read into the record. English and Chinese.

The list of what is not proven is never empty: it is shown even when every step of the recipe passed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ledger.verify.control import in_other_hands, outside_hands
from ledger.verify.facts import Attachment, Cosigned, Facts, Logged, OnChain, Stamped
from ledger.verify.words import Duration, Moment, Span, Value, fill

_SENTENCES: dict[str, dict[str, str]] = {
    # --- proven: what ---
    "content": {
        "en": "The content shown is what {department} sealed. It has not been changed since it was sealed.",
        "zh": "所出示的内容与{department}签署存证时一致，存证后未被改动。",
    },
    "content-none": {
        "en": "{department} sealed this record. None of its content is shown here.",
        "zh": "该记录系{department}签署存证，本次未出示其任何内容。",
    },
    "units-all": {
        "en": "The record has {total:part,parts}, all shown; nothing is withheld.",
        "zh": "该记录共{total}个部分，已全部出示，没有遮盖。",
    },
    "units-some": {
        "en": "Of the {total:part,parts} of the record, {shown:is,are} shown: {names}. "
        "What is withheld does not weaken the proof for what is shown.",
        "zh": "该记录共{total}个部分，本次出示{shown}个：{names}。其余部分未出示，不影响对已出示部分的核验。",
    },
    "attachment": {
        "en": "The file {file} is the attachment {name} that the record names: same size ({size:byte,bytes}), "
        "same SHA-256 value ({sha256}).",
        "zh": "所提交的文件“{file}”与该记录所载附件“{name}”一致：大小（{size}字节）及SHA-256校验值（{sha256}）均相同。",
    },
    # --- proven: by whom ---
    "signed": {
        "en": "The signature is by a key that the trust file assigns to {department} for signing records "
        "({validity}). The sealing time stated in the record lies within that period.",
        "zh": "签名核验一致：签署所用密钥系信任文件载明的{department}签署密钥（{validity}），"
        "记录所载的存证时间在其有效期内。",
    },
    # --- proven: since when ---
    "logged": {
        "en": "The record is entry number {position} in the log of {department} ({origin}). "
        "The department signed the log when it held {size:entry,entries}. "
        "Should the record ever be taken out or replaced, this receipt shows it.",
        "zh": "该记录已载入{department}的日志（{origin}），为第{position}条；该日志含有{size}条记录时，"
        "该部门对其状态作了签名。"
        "此后该记录如被删除或者替换，可凭本回执予以证明。",
    },
    "cosigned": {
        "en": "This state of the log was seen at {time}: {operator} confirmed it as witness ({witness}). "
        "By that word, the record existed at that time at the latest.",
        "zh": "见证方（{witness}，运营单位：{operator}）签名确认，其于{time}见到该日志状态。"
        "据此，该记录至迟于该时间已经存在。",
    },
    "quorum": {
        "en": "The trust file asks for the confirmation of at least {quorum:witness,witnesses}, each of another "
        "operator, and none of the operator of the log. The receipt has {found}.",
        "zh": "信任文件要求至少{quorum}个见证方确认，且其运营单位互不相同，亦非该日志的运营单位。"
        "本回执有{found}个，符合要求。",
    },
    "on-chain": {
        "en": "The blockchain holds this state of the log: its contract {contract} accepted it in block {block} "
        "(transaction {transaction}), and the validators {sealers} sealed that block or blocks on top of it. "
        "These are {found} of the {total:validator,validators} that the trust file names; "
        "it asks for at least {threshold}.",
        "zh": "该日志状态已由区块链接受：合约{contract}在第{block}号区块中予以接受（交易号{transaction}），"
        "验证节点{sealers}签封了该区块或者其后续区块。信任文件共载明{total}个验证节点，要求至少{threshold}个签封，"
        "现有{found}个。",
    },
    "on-chain-time": {
        "en": "The block's time is {time}. By the validators' word, the record existed at that time at the latest.",
        "zh": "该区块的时间为{time}。据各验证节点确认，该记录至迟于该时间已经存在。",
    },
    "on-chain-once": {
        "en": "That contract, which the trust file names, accepts only one state of a log for each number of entries, "
        "and only states that continue what it accepted before: "
        "another history of this log cannot stand on that chain.",
        "zh": "信任文件载明的该合约对同一条数的日志只接受一种状态，且只接受延续既有内容的状态："
        "该区块链上不可能另有该日志的其他版本。",
    },
    "stamped": {
        "en": "The time-stamping authority {authority} certified this state of the log at {time}. "
        "By that word, the record existed at that time at the latest.",
        "zh": "时间戳服务机构（{authority}）于{time}对该日志状态作了认证。据此，该记录至迟于该时间已经存在。",
    },
    "stamp-renewed": {
        "en": "That time stamp was renewed {count:time,times} before the certificates behind it ended, last at {last}.",
        "zh": "该时间戳在其证书到期之前已续期{count}次，最近一次为{last}。",
    },
    # --- not proven: time and log ---
    "not-time": {
        "en": "The exact time of sealing. {time} is the time of the department's own clock; nobody else confirmed it.",
        "zh": "存证的准确时间。{time}系该部门自身时钟所载，未经其他方确认。",
    },
    "not-time-later": {
        "en": "The exact time of sealing. {time} is the time of the department's own clock; nobody else confirmed it. "
        "The first confirmation by others came {delay} later.",
        "zh": "存证的准确时间。{time}系该部门自身时钟所载，未经其他方确认；最早的外部确认在其后{delay}作出。",
    },
    "not-time-contradicted": {
        "en": "That the department's clock was right. The record claims to have been sealed at {time}, "
        "but others had already confirmed it at {seen}: one of the two clocks was wrong.",
        "zh": "该部门的时钟是否准确。记录所载存证时间为{time}，而外部确认在此之前的{seen}即已作出，"
        "可见二者之中至少有一方的时钟有误。",
    },
    "not-key-ended": {
        "en": "That the record was really sealed while the key was valid. The key's validity ended at {ended}, "
        "and the first outside confirmation of the record is from later: {seen}.",
        "zh": "该记录是否确系在密钥有效期内签署。该密钥的有效期已于{ended}届满，而最早的外部确认时间为{seen}，"
        "晚于届满时间。",
    },
    "not-key-ended-unseen": {
        "en": "That the record was really sealed while the key was valid. The key's validity ended at {ended}, and "
        "nobody outside the department confirmed the record before. Whoever had the key could date a record back.",
        "zh": "该记录是否确系在密钥有效期内签署。该密钥的有效期已于{ended}届满，在此之前没有部门以外的确认；"
        "持有该密钥者可能倒填存证时间。",
    },
    "not-log-key-ended": {
        "en": "That the department signed this state of the log while the key it used was the log's. "
        "That key's validity ended at {ended}, and there is no outside confirmation from before.",
        "zh": "该部门签名确认日志状态时，所用密钥是否仍为该日志的有效密钥。该密钥的有效期已于{ended}届满，"
        "在此之前没有外部确认。",
    },
    "not-since": {
        "en": "Since when the record has existed. Nobody outside the department confirmed a time.",
        "zh": "该记录自何时起存在。没有部门以外的任何一方对时间予以确认。",
    },
    "not-timestamp": {
        "en": "A time certified by a time-stamping authority. No trusted timestamp is part of this evidence.",
        "zh": "经时间戳服务机构认证的时间。本证据未附可信时间戳。",
    },
    "not-authority": {
        "en": "That the clocks of the time-stamping authorities were right and their certificates not revoked. "
        "The certificates behind the time stamps reach until {until}; to be relied on after that, "
        "a time stamp must have been renewed before.",
        "zh": "时间戳服务机构的时钟是否准确、其证书是否曾被吊销。现有时间戳的证书有效期至{until}；"
        "此后仍需作为依据的，应在到期之前续期。",
    },
    "not-logged": {
        "en": "That the record stands in the department's log. No valid receipt was handed in for it, "
        "so it could have been withheld from the log or made later.",
        "zh": "该记录是否已载入部门的日志。未提交对应的有效回执，不能排除该记录未曾载入日志，或者系事后制作。",
    },
    "not-one-log": {
        "en": "That the department keeps only one version of its log. "
        "No witness outside the department confirmed this state of it.",
        "zh": "该部门的日志是否只有一个版本。没有部门以外的见证方确认该日志状态，不能排除另有内容不同的版本。",
    },
    "not-independent": {
        "en": "That the witnesses are independent of the department and that their clocks are right. "
        "Who operates them is what the trust file says.",
        "zh": "见证方是否独立于该部门、其时钟是否准确。见证方的运营单位以信任文件所载为准。",
    },
    "not-independent-same": {
        "en": "Anything against {operator}, by confirmations that came from {operator} itself. It runs both the node "
        "that keeps the log and these witnesses: {witness}.",
        "zh": "“{operator}”自身所作确认对该单位不具有证明作用：该单位既运营保存该日志的节点，"
        "又运营下列见证方：{witness}。",
    },
    # --- not proven: anchor ---
    "not-anchored": {
        "en": "An anchor on a blockchain. The receipt names none; it may have been issued before the anchoring.",
        "zh": "该记录是否已在区块链上锚定。回执未载明锚定信息，可能系在锚定之前出具。",
    },
    "not-anchor-embedded": {
        "en": "That the blockchain confirms anything. The department states an anchor in block {block} at {time}, "
        "but this chain (number {chain}) is run by the operator of the ledger alone: the anchor cannot be checked "
        "without that operator, and it proves nothing against that operator. "
        "A proof by the chain's validators does not exist, for there are none.",
        "zh": "区块链锚定的证明作用。该部门称已于{time}锚定在第{block}号区块，"
        "但该区块链（编号{chain}）由账本运营方单方运行，"
        "离开运营方即无法核验，对运营方自身不具有证明作用。该区块链没有验证节点，不存在由验证节点作出的证明。",
    },
    "not-anchor-asked": {
        "en": "That the anchor stands on the blockchain. The department signed that it is in block {block} of "
        "chain "
        "{chain} at {time}, in transaction {transaction}. "
        "No valid anchor evidence (.anchor.json) was handed in for it. "
        "This program works without a network and did not ask the chain; any of its nodes can be asked for that "
        "transaction.",
        "zh": "锚定是否确已上链。该部门签名声明已于{time}锚定在编号{chain}的区块链第{block}号区块，"
        "交易号为{transaction}。"
        "未提交对应的有效锚定证据（.anchor.json）。本程序离线运行，未向该链查证；凭上述交易号可向该链任一节点查证。",
    },
    "not-chain-independent": {
        "en": "That the chain's validators act independently of one another and of the department, "
        "that nobody else could use their keys, that their clocks are right, "
        "and that the chain still holds that block. "
        "Who the validators are is what the trust file says.",
        "zh": "各验证节点相互之间以及与该部门之间是否独立、其密钥是否曾被他人掌握、其时钟是否准确，"
        "以及该区块链目前是否仍保有该区块。"
        "验证节点的身份以信任文件所载为准。",
    },
    # --- not proven: content ---
    "not-truth": {
        "en": "Whether what the record says is true. The proof covers the time after sealing; "
        "it does not show that the content was right when it was sealed.",
        "zh": "记录内容在存证之前是否真实。核验仅能说明存证后未被改动，不能说明存证时所载内容属实。",
    },
    "not-masked": {
        "en": "Anything about what is withheld: {masked:part,parts} of the record, out of {total}.",
        "zh": "未出示部分的内容。该记录共{total}个部分，其中{masked}个未出示，其内容无从知悉，未作核验。",
    },
    "not-handed-in": {
        "en": "Anything about the content of the attachment {name}. The record names it ({size:byte,bytes}, "
        "SHA-256 {sha256}), but the file was not handed in or did not match.",
        "zh": "附件“{name}”的内容。该记录载明了该附件（{size}字节，SHA-256：{sha256}），"
        "但未提交该文件或者所提交的文件与之不符。",
    },
    "not-persons": {
        "en": "Who the officers and other persons named in the record are. "
        "Their identity is as the department states it.",
        "zh": "记录所载执法人员及其他人员的身份。均以该部门自行载明为准，未作核实。",
    },
    "not-key-alone": {
        "en": "That nobody but the department could use its signing key.",
        "zh": "该部门的签署密钥是否曾被他人掌握或者冒用。",
    },
    "not-current": {
        "en": "Whether a later record corrects or withdraws this one, and whether other records on the matter exist.",
        "zh": "该记录此后是否被更正、撤销，以及同一事项是否另有其他记录。",
    },
    "not-trust": {
        "en": "That the trust file is the right one. All of the above holds only if it came from a reliable "
        "source; "
        "compare its SHA-256 value over an independent channel.",
        "zh": "信任文件本身是否可靠。以上结论均以信任文件来源可靠为前提，请通过独立渠道核对其SHA-256校验值。",
    },
    "not-weight": {
        "en": "Whether the evidence is lawful and relevant, and what weight it has. That is for the court to decide.",
        "zh": "证据的合法性、关联性以及证明力大小。应由人民法院依法审查认定。",
    },
    # --- case files, level by level ---
    "case-integrity": {
        "en": "The case file holds {files:file,files}, and all of them are exactly those that its list names: "
        "nothing was added, left out or changed since the list was signed.",
        "zh": "卷宗共有{files}个文件，与其清单完全一致：清单签署之后，没有增加、缺失或者改动。",
    },
    "case-integrity-bad": {
        "en": "At {bad:place,places} the case file is not what its list or its records say.",
        "zh": "卷宗有{bad}处与其清单或者所载记录不一致。",
    },
    "case-amended": {
        "en": "{count:item was,items were} corrected or withdrawn by a later record of the same department in this "
        "case file; the list says which.",
        "zh": "有{count}项已被同一部门在本卷宗内的后续记录更正或者撤回，目录中逐项载明。",
    },
    "case-amends-elsewhere": {
        "en": "{count:item corrects or withdraws a record,items correct or withdraw records} not in this case file.",
        "zh": "有{count}项所更正或者撤回的记录不在本卷宗内。",
    },
    "case-trust-same": {
        "en": "The copy of the trust file inside is the same as the trust file used here.",
        "zh": "卷宗内附的信任文件副本与本次所用信任文件相同。",
    },
    "case-trust-other": {
        "en": "The copy of the trust file inside differs from the trust file used here. Only the latter counted.",
        "zh": "卷宗内附的信任文件副本与本次所用信任文件不同。核验仅以本次所用信任文件为准。",
    },
    "case-signed": {
        "en": "{department} signed the case file as a whole, with a key that the trust file assigns to it "
        "({validity}). Its own clock then said {time}.",
        "zh": "卷宗整体由{department}签署，所用密钥系信任文件载明的该部门密钥（{validity}），其自身时钟当时为{time}。",
    },
    "case-not-signed": {
        "en": "The case file as a whole is not validly signed by {department}. "
        "What follows rests on the records' own signatures alone.",
        "zh": "卷宗整体未经{department}有效签署。以下结论仅以各项记录自身的签名为依据。",
    },
    "case-authors": {
        "en": "Of {total:record,records}, {good:carries,carry} a valid signature of the department that "
        "the record names.",
        "zh": "共{total}项记录，其中{good}项带有其所载部门的有效签名。",
    },
    "case-logged": {
        "en": "Of {total:record,records}, {good:is,are} proven to stand in the log of the department.",
        "zh": "共{total}项记录，其中{good}项已证明载入其部门的日志。",
    },
    "case-unlogged": {
        "en": "For {absent:record,records} there is no receipt: that they stand in the log is not proven.",
        "zh": "有{absent}项记录没有回执，不能证明已载入日志。",
    },
    "case-frozen": {
        "en": "Decision, item {n}: when it was made, the department's log held {count:entry,entries} of the case, "
        "and the decision fixed a list of them. Of these, {found:is,are} in this case file, unchanged.",
        "zh": "第{n}项决定：作出决定时，该部门日志中有本案记录{count}条，决定固定了其清单；"
        "其中{found}条在本卷宗内，未被改动。",
    },
    "case-frozen-missing": {
        "en": "Of what the decision, item {n}, fixed, {missing:entry is,entries are} missing here or not the same.",
        "zh": "第{n}项决定所固定的记录中，有{missing}条在本卷宗中缺失或者不一致。",
    },
    "case-before": {
        "en": "{before:item,items} existed when the decision, item {n}, was made; {after:item,items}, that decision "
        "included, came with it or later.",
        "zh": "作出第{n}项决定时已经存在的有{before}项；与该决定同时或者在其后形成的有{after}项（含该决定本身）。",
    },
    "case-decision-open": {
        "en": "For {absent:decision,decisions} of the department it is not shown what existed at that time: "
        "completeness is not proven.",
        "zh": "有{absent}项决定未出示作出时已有证据的清单，不能证明证据齐全。",
    },
    "case-no-decision": {
        "en": "The case file holds no decision of the department, so there is no fixed list to compare with.",
        "zh": "卷宗中没有该部门作出的决定，因而没有可供比对的证据固定清单。",
    },
    "case-not-index": {
        "en": "The printed index, index.html, README.txt and custody.jsonld in the case file are the department's own "
        "words. The signature covers them; of what they say it was checked only that index.html names every item. "
        "Where they say anything else than this report, only this report counts.",
        "zh": "卷宗内供阅读的目录（打印本和网页）、说明和保管经过文件系部门自行制作，由其签名；"
        "仅核对了网页目录是否载明各项，其余内容未作核对。其内容与本报告不一致的，以本报告为准。",
    },
    "case-not-complete": {
        "en": "Not proven is that nothing of the case was left out that no decision fixed, and that other departments "
        "have nothing more.",
        "zh": "不能证明：未经决定固定的材料没有遗漏，以及其他部门没有更多材料。",
    },
    "case-witness": {
        "en": "{operator} confirmed the log as witness for {count:record,records} ({names}), first at {time}.",
        "zh": "“{operator}”作为见证方对{count}项记录所在的日志作了确认（{names}），最早为{time}。",
    },
    "case-witness-same": {
        "en": "{operator} confirmed the log for {count:record,records} ({names}), but it also runs the node that keeps "
        "it: this proves nothing against {operator}.",
        "zh": "“{operator}”对{count}项记录所在的日志作了确认（{names}），但该单位同时运营保存该日志的节点，"
        "对其自身不具有证明作用。",
    },
    "case-witness-unknown": {
        "en": "Whether {operator} is independent of the department is not known: the trust file does not say who runs "
        "the department's node.",
        "zh": "“{operator}”是否独立于该部门，无从判断：信任文件未载明该部门节点的运营单位。",
    },
    "case-unwitnessed": {
        "en": "{absent:record has,records have} no confirmation by a witness outside the department.",
        "zh": "有{absent}项记录没有部门以外见证方的确认。",
    },
    "case-control": {
        "en": "In the hands of {department} or of who runs its node are: {parts}.",
        "zh": "由{department}或者其节点运营单位控制的环节：{parts}。",
    },
    "case-on-chain": {
        "en": "For {good} of {total:record,records} the blockchain's validators prove that the state of the log is "
        "anchored there, the earliest at {first}, the latest at {last}.",
        "zh": "共{total}项记录，其中{good}项所在的日志状态已由区块链验证节点证明锚定上链，"
        "最早为{first}，最晚为{last}。",
    },
    "case-off-chain": {
        "en": "For {absent:record,records} there is no evidence of an anchor on the blockchain.",
        "zh": "有{absent}项记录没有区块链锚定证据。",
    },
    "case-embedded": {
        "en": "This trust file's chain is run by the ledger's operator alone and proves nothing against it.",
        "zh": "该信任文件载明的区块链由账本运营方单方运行，对运营方自身不具有证明作用。",
    },
    "case-stamped": {
        "en": "The time-stamping authority {authority} certified the log's state for {count:record,records}, first at "
        "{time}; its certificates reach until {until}.",
        "zh": "时间戳服务机构（{authority}）对{count}项记录所在的日志状态作了认证，最早为{time}；"
        "其证书有效期至{until}。",
    },
    "case-unstamped": {
        "en": "{absent:record has,records have} no certified time that could be judged here.",
        "zh": "有{absent}项记录没有可供核验的认证时间。",
    },
    "case-no-authorities": {
        "en": "The trust file names no time-stamping authority, so no time stamp was judged.",
        "zh": "信任文件未载明时间戳服务机构，因而未对时间戳作出判断。",
    },
    "case-captured": {
        "en": "Of {total:piece,pieces} of evidence, {good:says,say} which device was used: "
        "{devices:device,devices}, {operators:operator,operators}. The department sealed these words; "
        "they are not proven beyond that.",
        "zh": "共{total}项证据，其中{good}项载明采集设备：涉及设备{devices}台、操作人员{operators}名。"
        "以上系部门存证时自行载明，除此之外未作核实。",
    },
    "case-clock": {
        "en": "Where the device's clock was compared with the node's ({count:time,times}), it was off by at most "
        "{offset} milliseconds.",
        "zh": "设备时钟与节点时钟作过比对的有{count}项，最大偏差{offset}毫秒。",
    },
    "case-clock-unknown": {
        "en": "For {count:piece,pieces} of evidence nobody compared the device's clock.",
        "zh": "有{count}项证据，其设备时钟未经比对。",
    },
    "case-delay-seal": {
        "en": "From capture to sealing it took at most {delay}, by the clocks of device and department.",
        "zh": "自采集至存证，最长间隔{delay}（以设备和部门时钟为准）。",
    },
    "case-delay-seen": {
        "en": "From sealing to the first confirmation by others it took at most {delay}.",
        "zh": "自存证至最早的外部确认，最长间隔{delay}。",
    },
    "case-order": {
        "en": "For {count:piece,pieces} of evidence the time of sealing lies before the time of capture: "
        "a clock was wrong.",
        "zh": "有{count}项证据所载存证时间早于采集时间，可见有时钟不准。",
    },
    "case-uncaptured": {
        "en": "For {absent:piece,pieces} of evidence the device is not said or not shown.",
        "zh": "有{absent}项证据未载明或者未出示采集设备。",
    },
    "case-storage": {
        "en": "Since sealing, log and storage are in the hands of {who}.",
        "zh": "存证之后，日志与存储由“{who}”控制。",
    },
    "case-storage-unknown": {
        "en": "Who has run log and storage since sealing, the trust file does not say.",
        "zh": "存证之后日志与存储由谁运营，信任文件未载明。",
    },
    "case-no-evidence": {
        "en": "The case file holds no piece of evidence that a device could have made.",
        "zh": "卷宗中没有由设备采集的证据。",
    },
    "case-bad": {
        "en": "At this level, {bad:thing is,things are} wrong.",
        "zh": "本项有{bad}处核验不通过。",
    },
    # --- files that are not records ---
    "receipt-of": {
        "en": "This is the receipt of record {record}. What it proves is said with that record.",
        "zh": "该文件系记录{record}的回执，其证明的事项见该记录的核验结果。",
    },
    "evidence-of": {
        "en": "This is the blockchain's own proof that the state of the log in the receipt of record {record} "
        "is anchored. What it proves is said with that record.",
        "zh": "该文件系区块链就记录{record}的回执所载日志状态已经锚定作出的证明，其证明的事项见该记录的核验结果。",
    },
    "time-of": {
        "en": "This is a time stamp over the state of the log in the receipt of record {record}. "
        "What it proves is said with that record.",
        "zh": "该文件系对记录{record}的回执所载日志状态加盖的时间戳，其证明的事项见该记录的核验结果。",
    },
    "renewals-of": {
        "en": "These are the renewals of a time stamp for record {record}. What they prove is said with that record.",
        "zh": "该文件系记录{record}所附时间戳的续期证明，其证明的事项见该记录的核验结果。",
    },
    "attachment-of": {
        "en": "This is the attachment {name} of record {record}, unchanged.",
        "zh": "该文件系记录{record}的附件“{name}”，内容未被改动。",
    },
    "not-see-record": {
        "en": "What is not proven is said with that record, and holds for this file too.",
        "zh": "未能证明的事项见该记录的核验结果，对本文件同样适用。",
    },
    "not-anything": {
        "en": "This file proves nothing: neither who made it, nor when, nor that it is unchanged.",
        "zh": "本文件不能证明任何事项：其制作主体、制作时间以及内容是否被改动，均未得到证明。",
    },
}


def sentence(name: str, lang: str, /, **values: Value) -> str:
    """The sentence `name` of this module's table in `lang`, with its values filled in."""
    return fill(_SENTENCES[name][lang], lang, values)


def proven(facts: Facts, handed_in: Iterable[tuple[str, Attachment]], lang: str) -> list[str]:
    """What the facts prove. `handed_in`: file names with the attachments that they were verified to be."""
    names = ("、" if lang == "zh" else ", ").join(unit.name for unit in facts.units)
    total = len(facts.units) + facts.masked
    department = facts.department
    lines = [sentence("content" if facts.units else "content-none", lang, department=department)]
    if facts.units and facts.masked:
        lines.append(sentence("units-some", lang, total=total, shown=len(facts.units), names=names))
    elif facts.units:
        lines.append(sentence("units-all", lang, total=total))
    for file, a in handed_in:
        lines.append(sentence("attachment", lang, file=file, name=a.name, size=a.size, sha256=a.sha256))
    validity = Span((facts.key.valid_from, facts.key.valid_to))
    lines.append(sentence("signed", lang, department=department, validity=validity))
    if facts.logged is not None:
        lines += _logged(facts, facts.logged, lang)
    return lines


def _logged(facts: Facts, logged: Logged, lang: str) -> Iterator[str]:
    position = logged.index + 1
    yield sentence(
        "logged", lang, department=facts.department, origin=logged.origin, position=position, size=logged.size
    )
    for operator, found in _by_operator(logged.cosigned).items():
        if in_other_hands(operator, facts.department) is not False:
            time = Moment(min(c.time for c in found))
            yield sentence("cosigned", lang, witness=_names(found, lang), operator=operator, time=time)
    if logged.quorum:
        hands = outside_hands((cosigned.operator for cosigned in logged.cosigned), facts.department)
        yield sentence("quorum", lang, quorum=logged.quorum, found=len(hands))
    if logged.on_chain is not None:
        yield from _on_chain(logged.on_chain, lang)
    for stamped in logged.times:
        yield sentence("stamped", lang, authority=stamped.authority, time=Moment(stamped.time))
        if stamped.renewed:
            last = Moment(stamped.renewed[-1])
            yield sentence("stamp-renewed", lang, count=len(stamped.renewed), last=last)


def _by_operator(cosigned: Iterable[Cosigned]) -> dict[str, list[Cosigned]]:
    found: dict[str, list[Cosigned]] = {}
    for witness in cosigned:
        found.setdefault(witness.operator, []).append(witness)
    return found


def _names(cosigned: Iterable[Cosigned], lang: str) -> str:
    return ("、" if lang == "zh" else ", ").join(c.name for c in cosigned)


def seen_by_others(facts: Facts) -> int | None:
    """The earliest time confirmed by a witness that is not in the hands of the log's keeper, by the chain, or by a
    time-stamping authority."""
    if facts.logged is None:
        return None
    others = (c.time for c in facts.logged.cosigned if in_other_hands(c.operator, facts.department) is not False)
    on_chain = [facts.logged.on_chain.time] if facts.logged.on_chain else []
    return min([*others, *on_chain, *(stamped.time for stamped in facts.logged.times)], default=None)


def _on_chain(on_chain: OnChain, lang: str) -> Iterator[str]:
    form = "{}（{}）" if lang == "zh" else "{} ({})"
    sealers = [form.format(s.name, s.address) if s.name else s.address for s in on_chain.sealed_by]
    yield sentence(
        "on-chain",
        lang,
        contract=on_chain.contract,
        block=str(on_chain.block_number),
        transaction=on_chain.transaction,
        sealers=("、" if lang == "zh" else ", ").join(sealers),
        found=len(sealers),
        total=on_chain.validators,
        threshold=on_chain.threshold,
    )
    yield sentence("on-chain-time", lang, time=Moment(on_chain.time))
    yield sentence("on-chain-once", lang)


def not_proven(facts: Facts, handed_in: Iterable[tuple[str, Attachment]], lang: str) -> list[str]:
    """What the facts leave open; never empty."""
    matched = {attachment for _, attachment in handed_in}
    lines = [sentence("not-truth", lang)]
    if facts.masked:
        total = len(facts.units) + facts.masked
        lines.append(sentence("not-masked", lang, masked=facts.masked, total=total))
    missing = (a for a in facts.attachments if a not in matched)
    lines += [sentence("not-handed-in", lang, name=a.name, size=a.size, sha256=a.sha256) for a in missing]
    lines += _times(facts, lang)
    lines += _log(facts, lang)
    last = ("not-persons", "not-key-alone", "not-current", "not-trust", "not-weight")
    return lines + [sentence(name, lang) for name in last]


def _times(facts: Facts, lang: str) -> Iterator[str]:
    sealed = Moment(facts.sealed_at)
    seen = seen_by_others(facts)
    if seen is None:
        yield sentence("not-time", lang, time=sealed)
        yield sentence("not-since", lang)
    elif seen < sealed:
        yield sentence("not-time-contradicted", lang, time=sealed, seen=Moment(seen))
    else:
        yield sentence("not-time-later", lang, time=sealed, delay=Duration(seen - sealed))
    ended = facts.key.valid_to
    if ended is not None and seen is None:
        yield sentence("not-key-ended-unseen", lang, ended=Moment(ended))
    if ended is not None and seen is not None and seen >= ended:
        yield sentence("not-key-ended", lang, ended=Moment(ended), seen=Moment(seen))
    ended = facts.logged.log_key_ended if facts.logged else None
    if ended is not None and (seen is None or seen >= ended):
        yield sentence("not-log-key-ended", lang, ended=Moment(ended))
    yield _stamps(facts.logged.times if facts.logged else (), lang)


def _stamps(times: tuple[Stamped, ...], lang: str) -> str:
    if not times:
        return sentence("not-timestamp", lang)
    return sentence("not-authority", lang, until=Moment(max(stamped.good_until for stamped in times)))


def _log(facts: Facts, lang: str) -> Iterator[str]:
    logged = facts.logged
    if logged is None:
        yield sentence("not-logged", lang)
        return
    if logged.cosigned:
        yield sentence("not-independent", lang)
        for operator, found in _by_operator(logged.cosigned).items():
            if in_other_hands(operator, facts.department) is False:
                yield sentence("not-independent-same", lang, witness=_names(found, lang), operator=operator)
    elif logged.on_chain is None:
        yield sentence("not-one-log", lang)
    if logged.on_chain is not None:
        yield sentence("not-chain-independent", lang)
        return
    anchor = logged.anchor
    if anchor is None:
        yield sentence("not-anchored", lang)
        return
    where: dict[str, Value] = {"block": str(anchor.block_number), "chain": str(anchor.chain_id)}
    where["time"] = Moment(anchor.time)
    if facts.engine == "embedded":
        yield sentence("not-anchor-embedded", lang, **where)
    else:
        yield sentence("not-anchor-asked", lang, transaction=anchor.transaction, **where)
