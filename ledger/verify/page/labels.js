// What the page itself says. What is found is said by sentences.js.

export const SAID = {
    title: { en: "Yunxi evidence verifier", zh: "云玺证据核验" },
    lead: {
        en: "This page works without a network. It sends nothing, keeps nothing and reads no clock: the same files give the same answer at any time.",
        zh: "本页面离线运行，不上传、不保存任何文件，也不读取系统时间：相同的文件在任何时候核验，结果均相同。",
    },
    language: { en: "Language", zh: "语言" },
    tooOld: {
        en: "This browser cannot verify signatures (Ed25519). Nothing was decided. Open this page in a newer one: Chrome or Edge 137, Firefox 129, Safari 17, or later.",
        zh: "本浏览器不支持所需的签名算法（Ed25519），未能核验，未作出任何结论。请使用更新的浏览器打开本页面：Chrome 或者 Edge 137、Firefox 129、Safari 17 及以上版本。",
    },
    trustStep: { en: "Step 1. The trust file", zh: "第一步　放入信任文件" },
    trustHelp: {
        en: "It is named trust.json or similar and says whose keys are to be believed. Get it from the consortium, not from the party that submits the evidence.",
        zh: "信任文件通常名为 trust.json，载明各部门及其公钥，决定以谁的签名为准。请向联盟索取，不得由提交证据的一方提供。",
    },
    filesStep: { en: "Step 2. The evidence", zh: "第二步　放入证据文件" },
    filesHelp: {
        en: "The case file (.zip) as it came, not unpacked, or all single files that the party handed in, at once or one after another, in any order: records (.sd-jwt), receipts (.tlog-proof), anchor evidence (.anchor.json), time stamps (.tst), photos, videos, PDFs. Names do not matter.",
        zh: "请放入收到的卷宗文件（.zip，请勿解压）；单独提交的，放入当事人提交的全部文件，可一次或者分次放入，先后顺序、文件名均不影响结果：记录（.sd-jwt）、回执（.tlog-proof）、锚定证据（.anchor.json）、时间戳（.tst）以及照片、视频、PDF 等附件。",
    },
    resultStep: { en: "Step 3. The answer", zh: "第三步　核验结果" },
    resultWaits: {
        en: "The answer appears here once the trust file and the evidence are there.",
        zh: "放入信任文件和证据文件后，此处显示核验结果。",
    },
    resultNeedsTrust: {
        en: "The evidence is there. The trust file (step 1) is still missing.",
        zh: "证据文件已放入，尚缺信任文件（第一步）。",
    },
    resultNeedsFiles: {
        en: "The trust file is there. The evidence (step 2) is still missing.",
        zh: "信任文件已放入，尚缺证据文件（第二步）。",
    },
    choose: { en: "Choose file…", zh: "选择文件…" },
    chooseMany: { en: "Choose files…", zh: "选择文件…" },
    chooseOther: { en: "Choose another…", zh: "更换文件…" },
    addMore: { en: "Add more files…", zh: "继续添加文件…" },
    drop: { en: "or drop it here", zh: "或者将文件拖放到此处" },
    dropMany: { en: "or drop them here", zh: "或者将文件拖放到此处" },
    reading: {
        en: "Reading the case file and checking its digests: {done} of {total} MB…",
        zh: "正在读取卷宗并核对校验值：{done} / {total} MB……",
    },
    checkingItems: {
        en: "Checking the items of the case file: {done} of {total}…",
        zh: "正在逐项核验卷宗所列记录：{done} / {total}……",
    },
    working: { en: "Reading and checking…", zh: "正在读取并核验……" },
    consortium: { en: "Consortium", zh: "所属联盟" },
    departments: { en: "Departments", zh: "部门" },
    witnesses: { en: "Witnesses", zh: "见证方" },
    none: { en: "none", zh: "无" },
    fingerprint: { en: "SHA-256 value of this trust file", zh: "本信任文件的 SHA-256 校验值" },
    compare: {
        en: "Compare it with the value from a second source, by telephone or on paper. Everything below rests on this file.",
        zh: "请通过电话或者书面方式，与从另一来源取得的校验值核对。以下全部结论均以该文件可靠为前提。",
    },
    compareInput: {
        en: "Enter that value here and the page compares it (optional)",
        zh: "可在此输入从另一来源取得的校验值，由本页面比对（选填）",
    },
    same: { en: "The two values are the same.", zh: "两个校验值一致。" },
    different: {
        en: "The two values differ. Do not rely on this trust file.",
        zh: "两个校验值不一致，请勿使用该信任文件。",
    },
    tooShort: {
        en: "That is not a whole SHA-256 value yet: it has 64 digits from 0 to 9 and a to f.",
        zh: "尚不是完整的 SHA-256 校验值：应为 64 位，由 0 至 9、a 至 f 组成。",
    },
    notCompared: {
        en: "The SHA-256 value of the trust file was not compared on this page.",
        zh: "未在本页面比对信任文件的 SHA-256 校验值。",
    },
    setAside: {
        en: "{file} is a trust file and was not examined as evidence. A trust file must not come from the party that submits the evidence.",
        zh: "“{file}”是信任文件，未作为证据核验。信任文件不得由提交证据的一方提供。",
    },
    useAsTrust: { en: "It comes from a reliable source: use it in step 1", zh: "该文件来源可靠，用作第一步的信任文件" },
    looksLikeEvidence: {
        en: "{file} is evidence, not a trust file. It was put into step 2.",
        zh: "“{file}”是证据文件，不是信任文件，已放入第二步。",
    },
    broken: {
        en: "This page stopped on an error of its own ({file}). Nothing was decided. Verify on the command line and report it.",
        zh: "本页面自身出错（{file}），未作出任何结论。请改用命令行程序核验，并反馈该问题。",
    },
    allowUnlogged: {
        en: "Accept records without a receipt (the report then says that the log is not proven)",
        zh: "接受没有回执的记录（报告将注明未能证明其已载入日志）",
    },
    print: { en: "Print or save as PDF", zh: "打印或者另存为 PDF" },
    clear: { en: "Remove all evidence", zh: "清除全部证据文件" },
    remove: { en: "Remove {file}", zh: "移除 {file}" },
    given: { en: "Files handed in", zh: "已放入的文件" },
    fileName: { en: "File", zh: "文件名" },
    recordKind: { en: "Record", zh: "记录" },
    receiptKind: { en: "Receipt", zh: "回执" },
    evidenceKind: { en: "Anchor evidence", zh: "锚定证据" },
    attachmentKind: { en: "Attachment", zh: "附件" },
    timeKind: { en: "Time stamp", zh: "时间戳" },
    renewalsKind: { en: "Renewals of a time stamp", zh: "时间戳续期证明" },
    fileKind: { en: "Other file", zh: "其他文件" },
    others: { en: "The other files", zh: "其他文件的核验结果" },
    attachments: { en: "Attachments that the record names", zh: "记录所载附件" },
    handedIn: { en: "Handed in as {file}, unchanged.", zh: "已提交（文件“{file}”），内容未被改动。" },
    notHandedIn: { en: "Not handed in, or what was handed in differs.", zh: "未提交，或者所提交的文件与之不符。" },
    notShown: {
        en: "This page shows pictures only (PNG, JPEG, WebP). Open the file with its own program.",
        zh: "本页面仅显示图片（PNG、JPEG、WebP）。请用相应程序打开该文件。",
    },
    bytes: { en: "{size:byte,bytes}", zh: "{size}字节" },
    steps: { en: "The checks, one by one", zh: "逐项核验情况" },
    stepGood: { en: "holds", zh: "符合" },
    stepBad: { en: "FAILS", zh: "不符合" },
    stepNone: { en: "not part of what was handed in", zh: "所提交的材料中没有此项" },
    stepOpen: { en: "not reached", zh: "未进行到此步" },
    nothingProven: {
        en: "Anything at all: this file could not be read as a case file.",
        zh: "任何事项：该文件不能作为卷宗读取。",
    },
    contents: { en: "contents", zh: "内容" },
    contentsOf: {
        en: "{items:item,items}; {files:file,files}, {octets:byte,bytes}",
        zh: "{items}项，{files}个文件，{octets}字节",
    },
    levelsTitle: { en: "The checks, level by level", zh: "逐项核验结果" },
    levelColumn: { en: "Check", zh: "核验内容" },
    stateColumn: { en: "Result", zh: "结果" },
    sentencesColumn: { en: "What can be said", zh: "可以载入笔录的结论" },
    moreFindings: { en: "… and {count} more.", zh: "……另有{count}处。" },
    roleColumn: { en: "Role", zh: "性质" },
    foundColumn: { en: "In this case file", zh: "本卷宗内" },
    foundAll: { en: "all {found}", zh: "{found}条，齐全" },
    foundNotAll: { en: "{found}; {missing} MISSING OR CHANGED", zh: "{found}条，另有{missing}条缺失或者不一致" },
    proofTitle: { en: "What proves it", zh: "证明信息" },
    caseSummary: {
        en: "Case file of {department} in case {name}: {items:item,items}, signed {time}.",
        zh: "{department}就“{name}”案提交的卷宗，共{items}项，签署时间为{time}。",
    },
    amendedColumn: { en: "Corrections", zh: "更正与撤回" },
    whenColumn: { en: "Decision", zh: "与决定的先后" },
    stepsTitle: { en: "Steps, decisions and custody", zh: "程序、决定与保管记录" },
    showMore: { en: "Show more ({count} left)", zh: "显示更多（还有{count}项）" },
    itemsTitle: { en: "The items, one by one", zh: "各项内容" },
    itemsHelp: {
        en: "Press an item to open it. What is open is printed with the report.",
        zh: "点按某一项可展开其内容；已展开的内容随报告一并打印。",
    },
    notShownUnverified: {
        en: "The record did not pass, so its content is not shown.",
        zh: "该项记录未通过核验，不显示其内容。",
    },
    cannotShow: { en: "The content cannot be shown ({cause}).", zh: "无法显示内容（{cause}）。" },
    nobodyConfirmed: { en: "by nobody", zh: "没有外部确认" },
    confirmedAt: { en: "First confirmed by others", zh: "最早的外部确认" },
    anchoredAt: { en: "On the blockchain", zh: "区块链锚定时间" },
    stampedAt: { en: "Certified by a time-stamping authority", zh: "时间戳认证时间" },
    device: { en: "Capture device", zh: "采集设备" },
    operator: { en: "Operator", zh: "操作人员" },
    clockOffset: { en: "Device's clock was ahead by", zh: "设备时钟偏差（快）" },
    milliseconds: { en: "{count} ms", zh: "{count}毫秒" },
    notMeasured: { en: "not measured", zh: "未比对" },
    capturedAt: { en: "Captured, by the device's clock", zh: "采集时间（设备时钟）" },
    "place-in-log": { en: "Entry number in the log", zh: "日志中的序号" },
    leafHash: { en: "Leaf hash", zh: "叶哈希" },
    maskedParts: {
        en: "{count:part is,parts are} withheld. That does not weaken the proof for what is shown.",
        zh: "另有{count}个部分未出示，不影响对已出示部分的核验。",
    },
    attachmentHolds: { en: "unchanged", zh: "内容未被改动" },
    attachmentBroken: {
        en: "NOT what the record names; not shown",
        zh: "与记录所载不一致，不予显示",
    },
    save: { en: "Save", zh: "保存" },
    saveAs: { en: "Save {name} as {file}", zh: "将“{name}”保存为 {file}" },
    selfCheckOffer: {
        en: "The trust file is still missing. The case file holds a copy, which comes from the party that submits it: a check with that copy shows whether the case file fits together, and proves nothing about who made it.",
        zh: "尚缺信任文件。卷宗内附有一份副本，但该副本出自提交卷宗的一方：以其核验，只能看出卷宗自身是否相符，不能证明卷宗出自何人。",
    },
    selfCheck: { en: "Check with the copy inside for now", zh: "暂以卷宗内附副本试核验" },
    selfCheckNotice: {
        en: "CHECKED WITH THE TRUST FILE THAT LAY INSIDE THE CASE FILE. This proves nothing by itself: whoever made up the case file could have made up this file too. Get the trust file from the consortium and put it into step 1.",
        zh: "本次核验使用的是卷宗内附的信任文件副本，不能单独作为依据：伪造卷宗的人同样可以伪造该副本。请向联盟索取信任文件，放入第一步。",
    },
    selfGood: { en: "FITS TOGETHER, NOT YET VERIFIED", zh: "自身相符，尚未核验" },
    failedAt: { en: "This is check {number}: {text}", zh: "未通过的是第{number}项核验：{text}" },
    recordId: { en: "Record number", zh: "记录编号" },
    sealedAt: { en: "Sealed, by the department's own clock", zh: "存证时间（部门自身时钟）" },
    version: { en: "This page, as one file, has an SHA-256 value of its own: compare that one too.", zh: "本页面为单个文件，亦有其自身的 SHA-256 校验值，请一并核对。" },
};

// The steps of the recipe, number 1 first; in the words of docs/verify.md.
export const STEPS = [
    {
        en: "The trust file names somebody who can be trusted.",
        zh: "信任文件载明了可信的主体。",
    },
    {
        en: "The record is well formed.",
        zh: "记录的格式符合规定。",
    },
    {
        en: "The key is the department's own, meant for signing records, and was valid at the stated sealing time.",
        zh: "密钥属于该部门，用于签署记录，且在所载存证时间处于有效期内。",
    },
    {
        en: "The department's signature is right.",
        zh: "该部门的签名核验一致。",
    },
    {
        en: "Every part that is shown is one that was sealed, and none is shown twice.",
        zh: "所出示的每个部分均为存证时的内容，没有重复出示。",
    },
    {
        en: "The receipt is well formed.",
        zh: "回执的格式符合规定。",
    },
    {
        en: "The receipt is from the log of the same department.",
        zh: "回执出自同一部门的日志。",
    },
    {
        en: "The department signed that state of the log.",
        zh: "该日志状态经该部门签名。",
    },
    {
        en: "The witnesses whose confirmation is there did confirm it, and they are enough.",
        zh: "回执所载见证方的确认属实，数量符合要求。",
    },
    {
        en: "The record stands in that log, at the place the receipt says.",
        zh: "该记录确在该日志中，位置与回执所载一致。",
    },
    {
        en: "The anchor, if there is one, is on the right chain and contract, and the department stated it for this very log state.",
        zh: "载有锚定信息的，其区块链和合约与信任文件一致，且系该部门就该日志状态作出的声明。",
    },
    {
        en: "The anchor evidence, if there is any, is well formed and about this log state on the right chain and contract.",
        zh: "锚定证据（如有）的格式符合规定，且系针对该区块链和合约中的这一日志状态。",
    },
    {
        en: "Its blocks follow one another, every seal on them is by a validator that the trust file names, and enough different ones sealed. The first is the block that the receipt names.",
        zh: "其所载各区块前后衔接，每个签封均出自信任文件载明的验证节点，签封的不同验证节点数量符合要求；首个区块即回执所载区块。",
    },
    {
        en: "The transaction stands in that block, was signed for that chain, and is the one that the receipt names.",
        zh: "该交易确载于该区块，系针对该区块链签署，且即回执所载交易。",
    },
    {
        en: "It succeeded, and in it the contract accepted this very log state.",
        zh: "该交易执行成功，合约在其中接受了这一日志状态。",
    },
    {
        en: "Each attachment has the size and SHA-256 value that the record names.",
        zh: "每个附件的大小、SHA-256 校验值与记录所载一致。",
    },
    {
        en: "Each time stamp is over the state of the log, leads to an authority whose root the trust file names, and was renewed in time.",
        zh: "每个时间戳所认证的正是该日志状态，出自信任文件所载根证书下的时间戳服务机构，并已及时续期。",
    },
];
