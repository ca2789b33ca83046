"""A district that does not exist: its departments, companies, vehicles, streets and people.

Nothing in here is meant to be real: the region code 330299 and the plate letter 浙Y are not in use, the names of people
are put together by rule from the ten stems and twelve branches, telephone numbers begin with 000, the coordinates lie
in the sea.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from ledger.formats.identifiers import resident_check_digit, uscc_check_digit

DISTRICT = "望澜区"
DEPARTMENTS: Mapping[str, str] = {
    "fire": "望澜区消防救援大队",
    "housing": "望澜区住房和城乡建设局",
    "environment": "望澜区生态环境分局",
    "market": "望澜区市场监督管理局",
    "traffic": "望澜区交通警察大队",
    "urban": "望澜区综合行政执法局",
}

REGION = "330299"
_FIRST_DAY = datetime(2024, 7, 1, 8, 0)  # noqa: DTZ001 - the exports hold local times, as departments write them
_DAYS = 360


@dataclass(frozen=True, slots=True)
class Company:
    """A company; `principal` is the resident id of its legal representative."""

    name: str
    uscc: str
    address: str
    trade: str
    principal: str


@dataclass(frozen=True, slots=True)
class Vehicle:
    """A vehicle with its plate in normal form."""

    plate: str
    owner: Company
    tanker: bool


class World:
    """The companies, vehicles, addresses and people that all departments write about."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.estates = [f"{name}{kind}" for name in _NAMES for kind in ("花园", "小区", "公寓")]
        self.companies = [self._company(number) for number in range(120)]
        self.vehicles = [self._vehicle(number) for number in range(160)]
        self.tankers = [vehicle for vehicle in self.vehicles if vehicle.tanker]
        self.officers = {department: [self._officer(department, n) for n in range(12)] for department in DEPARTMENTS}

    def address(self) -> str:
        """A street address."""
        street, building = self.chance.choice(STREETS), self.chance.randrange(1, 120)
        return f"{DISTRICT}{street}{building}号"

    def plate(self) -> str:
        """The plate of one of the district's vehicles."""
        return self.chance.choice(self.vehicles).plate

    def position(self) -> tuple[str, str]:
        """Latitude and longitude as decimal text."""
        return f"30.{self.chance.randrange(400000, 480000)}", f"123.{self.chance.randrange(100000, 180000)}"

    def person(self) -> str:
        """A name put together by rule, of nobody in particular."""
        return self.chance.choice(_SURNAMES) + self.chance.choice(_STEMS) + self.chance.choice(_BRANCHES)

    def resident_id(self) -> str:
        """A citizen identification number with a valid check digit, in a region code that is not in use."""
        born = date(1960, 1, 1) + timedelta(days=self.chance.randrange(15000))
        body = f"{REGION}{born:%Y%m%d}{self.chance.randrange(1000):03d}"
        return body + resident_check_digit(body)

    def moment(self, number: int, count: int) -> datetime:
        """A local time within working hours; rises with `number`."""
        minutes = number * _DAYS * 600 // count
        return _FIRST_DAY + timedelta(days=minutes // 600, minutes=minutes % 600, seconds=self.chance.randrange(60))

    def _company(self, number: int) -> Company:
        trade = _TRADES[number % len(_TRADES)]
        name = f"望澜{_NAMES[number % len(_NAMES)]}{_STEMS[number // len(_NAMES) % 10]}{trade}有限公司"
        body = f"91{REGION}MA{self.chance.randrange(10**7):07d}"
        return Company(name, body + uscc_check_digit(body), self.address(), trade, self.resident_id())

    def _vehicle(self, number: int) -> Vehicle:
        tanker = number % 4 == 0
        serial = f"{self.chance.randrange(10**5):05d}"
        plate = f"浙YD{serial}" if number % 5 == 1 else f"浙Y{serial}"
        haulier = [company for company in self.companies if company.trade == "危货运输"]
        return Vehicle(plate, self.chance.choice(haulier if tanker else self.companies), tanker)

    def _officer(self, department: str, number: int) -> tuple[str, str]:
        return f"{department[:2].upper()}{REGION}{number:03d}", self.person()


_STEMS = "甲乙丙丁戊己庚辛壬癸"
_BRANCHES = "子丑寅卯辰巳午未申酉戌亥"
_SURNAMES = "赵钱孙李周吴郑王冯陈"
_NAMES = ("桃溪", "望汀", "云舫", "澜桥", "松屿", "鹭洲", "枕波", "听潮", "月渚", "帆影", "雁汊", "芦湾")
STREETS = ("桃溪路", "望汀街", "澜桥大道", "松屿路", "鹭洲巷", "听潮路", "芦湾工业路", "帆影码头路")
_TRADES = ("餐饮", "建筑", "化工", "物业", "危货运输", "食品", "机械", "置业", "印染", "超市")
