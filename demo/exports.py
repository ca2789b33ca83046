"""Exports of six departments of a district that does not exist, for the demonstration and for tests.

Each keeps its data in its own way: a GB18030 CSV, a workbook, nested JSON lines, an SQLite table, a UTF-8 CSV. They
write about the same companies, vehicles and addresses, each in its own spelling, and every export has a few rows that
no ledger should take.

The same seed and scale give the same bytes, with the same Python, zlib and SQLite.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path

from demo.district import DISTRICT, REGION, STREETS, World
from demo.drawings import draw
from demo.files import Row, json_line, json_text, write_csv, write_jsonl, write_sqlite, write_xlsx

MARKET_URL_VARIABLE = "YUNXI_DEMO_MARKET_URL"
"""The mapping of the market department reads its database's URL from this environment variable."""

_FUTURE = datetime(2099, 1, 1, 8, 30)  # noqa: DTZ001 - a local time, as the exports hold them

Spoilt = dict[str, Row | bytes]


@dataclass(frozen=True, slots=True)
class ExportFile:
    """One export. `good` rows can be sealed; `bad` says what is wrong with the others, and with how many."""

    department: str
    path: Path
    mapping: Path
    good: int
    bad: Mapping[str, int]

    @property
    def rows(self) -> int:
        """Rows in the file, good and bad."""
        return self.good + sum(self.bad.values())


@dataclass(frozen=True, slots=True)
class Exports:
    """All exports. `environ` holds what the mappings expect in the environment."""

    directory: Path
    files: tuple[ExportFile, ...]
    environ: Mapping[str, str]

    @property
    def good(self) -> int:
        """Rows of all files that can be sealed."""
        return sum(file.good for file in self.files)

    @property
    def bad(self) -> int:
        """Rows of all files that must be set aside."""
        return sum(sum(file.bad.values()) for file in self.files)


@dataclass(slots=True)
class _Feed:
    """One department's rows on their way into a file; `photos` is filled while the rows are made."""

    rows: list[Row]
    spoilt: Spoilt
    photos: dict[str, bytes] = field(default_factory=dict)


def generate(directory: Path, seed: int = 7, scale: int = 1) -> Exports:
    """Writes all exports, their photos and their mapping files below `directory`, one folder a department.

    About 2,300 rows for each step of `scale`. Files that are there are overwritten. Raises ValueError for a scale below
    1, OSError where the directory cannot be written.
    """
    if scale < 1:
        raise ValueError("scale must be at least 1")
    world = World(random.Random(seed))  # noqa: S311 - repeatable on purpose, nothing here is secret
    written = []
    for department, (name, make, write) in _EXPORTS.items():
        folder = directory / department
        feed = make(world, scale)
        for photo, data in feed.photos.items():
            _write(folder / "photos" / photo, data)
        rows = _mixed(feed.rows, list(feed.spoilt.values()))
        _write(folder / name, write(rows))
        mapping = folder / f"{Path(name).stem}.toml"
        _write(mapping, (files("demo") / "mappings" / mapping.name).read_bytes())
        bad = dict.fromkeys(feed.spoilt, 1)
        written.append(ExportFile(department, folder / name, mapping, len(feed.rows), bad))
    market = (directory / "market" / "licences.sqlite").absolute()
    return Exports(directory, tuple(written), {MARKET_URL_VARIABLE: f"sqlite:///{market}"})


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _mixed(rows: Sequence[Row], spoilt: Sequence[Row | bytes]) -> list[Row | bytes]:
    """`spoilt` spread evenly between `rows`, in order."""
    mixed: list[Row | bytes] = list(rows)
    for place, bad in enumerate(spoilt, 1):
        mixed.insert(place * len(rows) // (len(spoilt) + 1) + place - 1, bad)
    return mixed


def _mistyped(row: Row, column: str) -> Row:
    """`row` with another last character in `column`: the check digit is wrong."""
    code = row[column]
    return row | {column: code[:-1] + ("2" if code[-1] == "1" else "1")}


# ---- the departments ---------------------------------------------------------------------------------------------


def _fire(world: World, scale: int) -> _Feed:
    """Fire lanes, watched by cameras: the picture, the plate, a text message to the keeper."""
    chance, count = world.chance, 460 * scale
    feed = _Feed([], {})

    def row(number: int) -> Row:
        plate, at = world.plate(), world.moment(min(number, count), count)
        latitude, longitude = world.position()
        estate = chance.choice(world.estates)
        photo = ""
        if number % 4 == 0:
            photo = f"XF{number:06d}.png"
            feed.photos[photo] = draw("fire-lane", f"{at:%Y-%m-%d %H:%M:%S}", chance)
        return {
            "案件编号": f"望消通{at:%Y}{number:06d}",
            "抓拍时间": f"{at:%Y-%m-%d %H:%M:%S}",
            "小区名称": estate,
            "地点": f"{DISTRICT}{estate}{chance.randrange(1, 20)}幢消防车通道",
            "纬度": latitude,
            "经度": longitude,
            "号牌号码": f"{plate[:2]}·{plate[2:]}",
            "违法行为": "占用消防车通道",
            "停留分钟": str(chance.randrange(3, 95)),
            "设备编号": f"XFCAM-{chance.randrange(1, 60):03d}",
            "法制审核": chance.choice(("通过", "通过", "通过", "待审", "不通过")),
            "短信告知时间": f"{at + timedelta(seconds=chance.randrange(2, 9)):%Y-%m-%d %H:%M:%S}",
            "照片": photo,
            "备注": chance.choice(("", "", "业主已挪车", '车窗贴有"临时停靠"', "第二次告知")),
        }

    feed.rows = [row(number) for number in range(count)]
    extra = [row(count + number) for number in range(6)]
    feed.spoilt = {
        "plate with a letter that plates do not have": extra[0] | {"号牌号码": "浙Y·O1234"},
        "time in the future": extra[1] | {"抓拍时间": f"{_FUTURE}"},
        "time is missing": extra[2] | {"抓拍时间": ""},
        "unknown word in a list of words": extra[3] | {"法制审核": "再议"},
        "photo is not there": extra[4] | {"照片": "not-there.png"},
        "bytes that are not GB18030": f"望消通2024999999,2024-09-01 10:00:00,{extra[5]['小区名称']}".encode("gb18030")
        + b"\xff\xff,,,,,,,,,,,",
    }
    return feed


def _housing(world: World, scale: int) -> _Feed:
    """Quality of new flats, from foundations to handover."""
    chance, count = world.chance, 360 * scale
    builders = [company for company in world.companies if company.trade in ("建筑", "置业")]
    feed = _Feed([], {})

    def row(number: int) -> Row:
        at, builder = world.moment(min(number, count), count), chance.choice(builders)
        stage, item, problem = chance.choice(_HOUSING_ITEMS)
        result = chance.choice(("合格", "合格", "不合格", "现场整改"))
        (first, first_name), (second, second_name) = chance.sample(world.officers["housing"], 2)
        names = [f"ZJ{number:05d}-{n}.png" for n in (1, 2)] if number % 6 == 0 else []
        for name in names:
            feed.photos[name] = draw("cracked-wall", f"{at:%Y-%m-%d %H:%M}", chance)
        return {
            "记录编号": f"ZJ-{at:%Y}-{number:05d}",
            "检查日期": at.date(),
            "项目名称": f"{chance.choice(world.estates)}{chance.randrange(1, 4)}期",
            "施工单位": builder.name,
            "统一社会信用代码": builder.uscc,
            "项目地址": builder.address,
            "检查阶段": stage,
            "检查项目": item,
            "检查结果": result,
            "问题描述": "" if result == "合格" else problem,
            "空鼓面积(cm2)": chance.randrange(100, 900) if item == "墙面空鼓" else None,
            "整改期限": at.date() + timedelta(days=15) if result == "不合格" else None,
            "执法人员一": first_name,
            "执法证号一": first,
            "执法人员二": second_name,
            "执法证号二": second,
            "照片": ";".join(names),
        }

    feed.rows = [row(number) for number in range(count)]
    extra = [row(count + number) for number in range(6)]
    feed.spoilt = {
        "wrong check digit of a company": _mistyped(extra[0], "统一社会信用代码"),
        "day in the future": extra[1] | {"检查日期": _FUTURE.date()},
        "only one officer": extra[2] | {"执法人员二": "", "执法证号二": ""},
        "the same officer twice": extra[3]
        | {"执法人员二": extra[3]["执法人员一"], "执法证号二": extra[3]["执法证号一"]},
        "unknown word in a list of words": extra[4] | {"检查结果": "基本合格"},
        "day as free text": extra[5] | {"检查日期": "三月初"},
    }
    return feed


_HOUSING_ITEMS = (
    ("主体结构", "钢筋间距", "梁柱节点箍筋间距超出设计值"),
    ("主体结构", "混凝土强度", "回弹检测强度低于设计等级"),
    ("装饰装修", "墙面空鼓", "墙面抹灰层存在空鼓、裂缝"),
    ("装饰装修", "卫生间防水", "闭水试验二十四小时后下层顶板渗漏"),
    ("分户验收", "门窗安装", "外窗淋水试验渗水"),
    ("交付使用", "面积误差", "实测面积与合同约定不符"),
)


def _environment(world: World, scale: int) -> _Feed:
    """Discharges, measured on site by two officers."""
    chance, count = world.chance, 320 * scale
    plants = [company for company in world.companies if company.trade in ("化工", "印染", "机械", "食品")]
    feed = _Feed([], {})

    def row(number: int) -> Row:
        at, plant = world.moment(min(number, count), count), chance.choice(plants)
        quantity, unit, limit = chance.choice(_DISCHARGES)
        value = round(limit * chance.uniform(0.2, 1.4), 2)
        (first, first_name), (second, second_name) = chance.sample(world.officers["environment"], 2)
        latitude, longitude = world.position()
        return {
            "编号": f"HJ{at:%Y%m}{number:05d}",
            "时间": f"{at.isoformat()}+08:00",
            "对象": {"名称": plant.name, "代码": plant.uscc, "排污许可证": f"{plant.uscc}001V"},
            "位置": {"地址": plant.address, "坐标": {"北纬": latitude, "东经": longitude}},
            "监测": {"项目": quantity, "数值": value, "单位": unit, "限值": limit, "仪器": f"SZ-{number % 9 + 1}"},
            "人员": {"甲": {"姓名": first_name, "证号": first}, "乙": {"姓名": second_name, "证号": second}},
            "结论": "超标" if value > limit else "达标",
            "措施": "责令立即停止超标排放，依法另行立案调查。" if value > limit else None,
        }

    feed.rows = [row(number) for number in range(count)]
    extra = [row(count + number) for number in range(6)]
    feed.spoilt = {
        "line that is cut off": json_text(extra[0])[:-30].encode(),
        "bytes that are not UTF-8": json_line(extra[1])
        .replace("达标".encode(), b"\xb4\xef\xb1\xea")
        .replace("超标".encode(), b"\xb3\xac\xb1\xea"),
        "member that stands twice": b'{"\xe7\xbc\x96\xe5\x8f\xb7": "HJ0", ' + json_line(extra[2])[1:],
        "company without its code": extra[3] | {"对象": {"名称": "无名作坊", "代码": ""}},
        "time in the future": extra[4] | {"时间": f"{_FUTURE.isoformat()}+08:00"},
        "unknown word in a list of words": extra[5] | {"结论": "待复核"},
    }
    return feed


_DISCHARGES = (
    ("化学需氧量", "mg/L", 80),
    ("氨氮", "mg/L", 15),
    ("总磷", "mg/L", 0.5),
    ("颗粒物", "mg/m3", 20),
    ("厂界噪声", "dB(A)", 65),
)


def _market(world: World, scale: int) -> _Feed:
    """Licences, one row a licence."""
    chance, count = world.chance, 420 * scale

    def row(number: int) -> Row:
        at, company = world.moment(min(number, count), count), chance.choice(world.companies)
        activity, prefix = _ACTIVITIES.get(company.trade, ("特种设备使用", "TS"))
        return {
            "id": number + 1,
            "licence_no": f"{prefix}{REGION}{at:%Y}{number:06d}",
            "holder": company.name,
            "uscc": company.uscc.lower() if number % 7 == 0 else company.uscc,
            "principal_id": company.principal,
            "premises": company.address,
            "activity": activity,
            "procedure": chance.choice(("新办", "延续", "变更")),
            "valid_from": f"{at:%Y-%m-%d}",
            "valid_to": f"{at.replace(year=at.year + 5, day=min(at.day, 28)):%Y-%m-%d}",
            "state": chance.choice(("有效", "有效", "有效", "注销")),
        }

    rows = [row(number) for number in range(count)]
    extra = [row(count + number) for number in range(6)]
    spoilt: Spoilt = {
        "wrong check digit of a company": _mistyped(extra[0], "uscc"),
        "wrong check digit of a person": _mistyped(extra[1], "principal_id"),
        "licence number is missing": extra[2] | {"licence_no": None},
        "day in the future": extra[3] | {"valid_from": "2099-01-01"},
        "day before 1949": extra[4] | {"valid_from": "1924-07-01"},
        "day that does not exist": extra[5] | {"valid_from": "2025-02-30"},
    }
    return _Feed(rows, spoilt)


_ACTIVITIES = {
    "餐饮": ("热食类食品制售", "JY"),
    "食品": ("糕点生产", "SC"),
    "超市": ("预包装食品销售", "JY"),
    "化工": ("危险化学品经营", "WH"),
    "印染": ("危险化学品使用", "WH"),
    "危货运输": ("道路危险货物运输", "YS"),
}


def _traffic(world: World, scale: int) -> _Feed:
    """Dangerous goods on the road."""
    chance, count = world.chance, 380 * scale
    feed = _Feed([], {})

    def row(number: int) -> Row:
        at, vehicle = world.moment(min(number, count), count), chance.choice(world.tankers)
        goods, un_number = chance.choice(_GOODS)
        code, violation, quantity, unit, limit, fine, points = chance.choice(_VIOLATIONS)
        value = str(round(limit * chance.uniform(1.05, 1.5))) if limit else ""
        badge, officer = chance.choice(world.officers["traffic"])
        photo = ""
        if number % 5 == 0:
            photo = f"JJ{number:06d}.png"
            feed.photos[photo] = draw("tanker", f"{at:%Y-%m-%d %H:%M:%S}", chance)
        return {
            "处罚编号": f"{REGION}{at:%Y}{number:06d}",
            "违法时间": f"{at:%Y/%m/%d %H:%M}",
            "违法地点": f"{DISTRICT}{chance.choice(STREETS)}与{chance.choice(STREETS)}交叉口",
            "号牌号码": vehicle.plate,
            "号牌颜色": "黄绿" if len(vehicle.plate) == 8 else "黄",
            "车辆类型": "重型罐式货车",
            "运输企业": vehicle.owner.name,
            "企业代码": vehicle.owner.uscc,
            "货物名称": goods,
            "UN编号": un_number,
            "运输证号": f"浙交运管危字{REGION}{chance.randrange(10**5):05d}号",
            "违法代码": code,
            "违法行为": violation,
            "测量项": quantity,
            "测量值": value,
            "限值": str(limit) if limit else "",
            "单位": unit,
            "罚款(元)": f"{fine:.2f}",
            "记分": str(points),
            "执法人员": officer,
            "警号": badge,
            "照片": photo,
        }

    feed.rows = [row(number) for number in range(count)]
    extra = [row(count + number) for number in range(7)]
    feed.spoilt = {
        "plate of another shape": extra[0] | {"号牌号码": "浙Y12"},
        "day that does not exist": extra[1] | {"违法时间": "2025/02/30 09:00"},
        "time in the future": extra[2] | {"违法时间": f"{_FUTURE:%Y/%m/%d %H:%M}"},
        "fine in words": extra[3] | {"罚款(元)": "贰佰元"},
        "UN number of another shape": extra[4] | {"UN编号": "汽油"},
        "bytes that are not UTF-8": ",".join(extra[5].values()).encode("gb18030"),
        "line that is cut off": ",".join(list(extra[6].values())[:9]).encode(),
    }
    return feed


_GOODS = (
    ("汽油", "UN1203"),
    ("液化石油气", "UN1075"),
    ("甲醇", "UN1230"),
    ("氢氧化钠溶液", "UN1824"),
    ("液氨", "UN1005"),
)
_VIOLATIONS: tuple[tuple[str, str, str, str, int, int, int], ...] = (
    ("1636", "危险物品运输车辆超速百分之二十以下", "车速", "km/h", 60, 200, 6),
    ("1303", "危险物品运输车辆未按规定路线行驶", "", "", 0, 500, 3),
    ("1305", "危险物品运输车辆未悬挂警示标志", "", "", 0, 500, 3),
    ("1719", "连续驾驶超过四小时未停车休息", "连续驾驶", "min", 240, 200, 3),
)


def _urban(world: World, scale: int) -> _Feed:
    """What residents report, by telephone and by app."""
    chance, count = world.chance, 340 * scale

    def row(number: int) -> Row:
        at, (nature, words, trades) = world.moment(min(number, count), count), chance.choice(_COMPLAINTS)
        company = chance.choice([company for company in world.companies if not trades or company.trade in trades])
        about = {"单位": company.name, "单位代码": company.uscc} if trades else {"号牌": world.plate().lower()}
        done = number % 5 != 4
        return {
            "工单": {
                "编号": f"12345-{at:%y}-{number:06d}",
                "渠道": chance.choice(("热线", "网格员", "手机端")),
                "受理时间": f"{at}",
            },
            "诉求": {"类别": nature, "内容": words},
            "位置": {"地址": _full_width(company.address) if number % 3 == 0 else company.address},
            "诉求人": {"姓名": world.person(), "电话": f"000{chance.randrange(10**8):08d}"},
            "涉及": about,
            "办理": {
                "状态": "已办结" if done else "办理中",
                "办结日期": f"{at + timedelta(days=chance.randrange(1, 9)):%Y-%m-%d}" if done else None,
                "承办": "综合执法中队",
                "答复": "已现场核实并处理。" if done else None,
            },
        }

    rows = [row(number) for number in range(count)]
    extra = [row(count + number) for number in range(6)]
    spoilt: Spoilt = {
        "line that is cut off": json_text(extra[0])[:40].encode(),
        "not an object": json.dumps(["12345", "重复工单"], ensure_ascii=False).encode(),
        "number is missing": extra[1] | {"工单": extra[1]["工单"] | {"编号": ""}},
        "time in the future": extra[2] | {"工单": extra[2]["工单"] | {"受理时间": f"{_FUTURE}"}},
        "number of another complaint, with other content": extra[3] | {"工单": rows[0]["工单"]},
        "wrong check digit of a company": extra[4]
        | {"涉及": {"单位": "某某公司", "单位代码": f"91{REGION}MA00000000"}},
    }
    return _Feed(rows, spoilt)


# what it is about: companies of these trades, or (none named) a vehicle
_COMPLAINTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("消防通道被占", "小区消防车通道长期停放车辆，救援车辆无法进入。", ()),
    ("油烟扰民", "餐饮店未安装油烟净化装置，油烟直排。", ("餐饮",)),
    ("房屋质量", "交付的新房墙面开裂、瓷砖脱落。", ("置业", "建筑")),
    ("夜间施工噪声", "工地夜间十二点后仍在施工。", ("建筑",)),
    ("污水异味", "厂区附近河道水体有异味。", ("化工", "印染")),
)


def _full_width(text: str) -> str:
    return "".join(chr(ord(character) + 0xFEE0) if character.isascii() else character for character in text)


# ---- which file is whose ----------------------------------------------------------------------------------------

_EXPORTS: Mapping[
    str, tuple[str, Callable[[World, int], _Feed], Callable[[Sequence[Row | bytes]], bytes]]
] = {
    "fire": ("fire-lanes.csv", _fire, lambda rows: write_csv(rows, "gb18030")),
    "housing": ("housing-quality.xlsx", _housing, lambda rows: write_xlsx(rows, "商品房品质检查台账")),
    "environment": ("discharges.jsonl", _environment, write_jsonl),
    "market": ("licences.sqlite", _market, lambda rows: write_sqlite(rows, "licences")),
    "traffic": ("dangerous-goods.csv", _traffic, lambda rows: write_csv(rows, "utf-8-sig")),
    "urban": ("complaints.jsonl", _urban, write_jsonl),
}  # fmt: skip
