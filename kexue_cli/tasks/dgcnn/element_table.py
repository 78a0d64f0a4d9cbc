"""The 118 chemical elements, for questions that need no download."""

from __future__ import annotations

from dataclasses import dataclass

NOBLE_GASES = (2, 10, 18, 36, 54, 86, 118)  # the last of each period
PERIODS = "一二三四五六七"

# Symbol, Chinese and English name, relative atomic mass (of elements without a stable isotope the
# mass number of a long-lived one), then who discovered it, or first made it, and when. Of several
# discoverers one is named; elements known since antiquity have none.
TABLE = """
H 氢 Hydrogen 1.008 卡文迪什 1766
He 氦 Helium 4.0026 让森 1868
Li 锂 Lithium 6.94 阿韦德松 1817
Be 铍 Beryllium 9.0122 沃克兰 1798
B 硼 Boron 10.81 盖-吕萨克 1808
C 碳 Carbon 12.011
N 氮 Nitrogen 14.007 丹尼尔·卢瑟福 1772
O 氧 Oxygen 15.999 普里斯特利 1774
F 氟 Fluorine 18.998 莫瓦桑 1886
Ne 氖 Neon 20.180 拉姆齐 1898
Na 钠 Sodium 22.990 戴维 1807
Mg 镁 Magnesium 24.305 戴维 1808
Al 铝 Aluminium 26.982 奥斯特 1825
Si 硅 Silicon 28.085 贝采利乌斯 1824
P 磷 Phosphorus 30.974 布兰德 1669
S 硫 Sulfur 32.06
Cl 氯 Chlorine 35.45 舍勒 1774
Ar 氩 Argon 39.95 瑞利 1894
K 钾 Potassium 39.098 戴维 1807
Ca 钙 Calcium 40.078 戴维 1808
Sc 钪 Scandium 44.956 尼尔松 1879
Ti 钛 Titanium 47.867 格雷戈尔 1791
V 钒 Vanadium 50.942 德尔·里奥 1801
Cr 铬 Chromium 51.996 沃克兰 1797
Mn 锰 Manganese 54.938 甘恩 1774
Fe 铁 Iron 55.845
Co 钴 Cobalt 58.933 布兰特 1735
Ni 镍 Nickel 58.693 克龙斯泰特 1751
Cu 铜 Copper 63.546
Zn 锌 Zinc 65.38 马格拉夫 1746
Ga 镓 Gallium 69.723 布瓦博德朗 1875
Ge 锗 Germanium 72.630 温克勒 1886
As 砷 Arsenic 74.922
Se 硒 Selenium 78.971 贝采利乌斯 1817
Br 溴 Bromine 79.904 巴拉尔 1826
Kr 氪 Krypton 83.798 拉姆齐 1898
Rb 铷 Rubidium 85.468 本生 1861
Sr 锶 Strontium 87.62 克劳福德 1790
Y 钇 Yttrium 88.906 加多林 1794
Zr 锆 Zirconium 91.224 克拉普罗特 1789
Nb 铌 Niobium 92.906 哈切特 1801
Mo 钼 Molybdenum 95.95 舍勒 1778
Tc 锝 Technetium 98 塞格雷 1937
Ru 钌 Ruthenium 101.07 克劳斯 1844
Rh 铑 Rhodium 102.91 沃拉斯顿 1804
Pd 钯 Palladium 106.42 沃拉斯顿 1802
Ag 银 Silver 107.87
Cd 镉 Cadmium 112.41 施特罗迈尔 1817
In 铟 Indium 114.82 赖希 1863
Sn 锡 Tin 118.71
Sb 锑 Antimony 121.76
Te 碲 Tellurium 127.60 米勒 1782
I 碘 Iodine 126.90 库尔图瓦 1811
Xe 氙 Xenon 131.29 拉姆齐 1898
Cs 铯 Caesium 132.91 本生 1860
Ba 钡 Barium 137.33 戴维 1808
La 镧 Lanthanum 138.91 莫桑德尔 1839
Ce 铈 Cerium 140.12 贝采利乌斯 1803
Pr 镨 Praseodymium 140.91 韦尔斯巴赫 1885
Nd 钕 Neodymium 144.24 韦尔斯巴赫 1885
Pm 钷 Promethium 145 马林斯基 1945
Sm 钐 Samarium 150.36 布瓦博德朗 1879
Eu 铕 Europium 151.96 德马塞 1901
Gd 钆 Gadolinium 157.25 马里尼亚克 1880
Tb 铽 Terbium 158.93 莫桑德尔 1843
Dy 镝 Dysprosium 162.50 布瓦博德朗 1886
Ho 钬 Holmium 164.93 克莱夫 1879
Er 铒 Erbium 167.26 莫桑德尔 1843
Tm 铥 Thulium 168.93 克莱夫 1879
Yb 镱 Ytterbium 173.05 马里尼亚克 1878
Lu 镥 Lutetium 174.97 于尔班 1907
Hf 铪 Hafnium 178.49 赫维西 1923
Ta 钽 Tantalum 180.95 埃克贝里 1802
W 钨 Tungsten 183.84 舍勒 1781
Re 铼 Rhenium 186.21 诺达克 1925
Os 锇 Osmium 190.23 坦南特 1803
Ir 铱 Iridium 192.22 坦南特 1803
Pt 铂 Platinum 195.08
Au 金 Gold 196.97
Hg 汞 Mercury 200.59
Tl 铊 Thallium 204.38 克鲁克斯 1861
Pb 铅 Lead 207.2
Bi 铋 Bismuth 208.98 若弗鲁瓦 1753
Po 钋 Polonium 209 居里夫妇 1898
At 砹 Astatine 210 科森 1940
Rn 氡 Radon 222 道恩 1900
Fr 钫 Francium 223 佩里 1939
Ra 镭 Radium 226 居里夫妇 1898
Ac 锕 Actinium 227 德比埃尔内 1899
Th 钍 Thorium 232.04 贝采利乌斯 1829
Pa 镤 Protactinium 231.04 法扬斯 1913
U 铀 Uranium 238.03 克拉普罗特 1789
Np 镎 Neptunium 237 麦克米伦 1940
Pu 钚 Plutonium 244 西博格 1940
Am 镅 Americium 243 西博格 1944
Cm 锔 Curium 247 西博格 1944
Bk 锫 Berkelium 247 汤普森 1949
Cf 锎 Californium 251 汤普森 1950
Es 锿 Einsteinium 252 吉奥索 1952
Fm 镄 Fermium 257 吉奥索 1952
Md 钔 Mendelevium 258 吉奥索 1955
No 锘 Nobelium 259 弗廖罗夫 1966
Lr 铹 Lawrencium 266 吉奥索 1961
Rf 𬬻 Rutherfordium 267 吉奥索 1969
Db 𬭊 Dubnium 268 吉奥索 1970
Sg 𬭳 Seaborgium 269 吉奥索 1974
Bh 𬭛 Bohrium 270 明岑贝格 1981
Hs 𬭶 Hassium 269 明岑贝格 1984
Mt 鿏 Meitnerium 278 明岑贝格 1982
Ds 𫟼 Darmstadtium 281 霍夫曼 1994
Rg 𬬭 Roentgenium 282 霍夫曼 1994
Cn 鿔 Copernicium 285 霍夫曼 1996
Nh 鿭 Nihonium 286 森田浩介 2004
Fl 𫓧 Flerovium 289 奥加涅相 1999
Mc 镆 Moscovium 290 奥加涅相 2003
Lv 𫟷 Livermorium 293 奥加涅相 2000
Ts 鿬 Tennessine 294 奥加涅相 2010
Og 鿫 Oganesson 294 奥加涅相 2002
"""


@dataclass(frozen=True)
class Element:
    """One element; `discoverer` and `year` are "" where it has always been known."""

    number: int
    symbol: str
    name: str
    english: str
    mass: str
    discoverer: str = ""
    year: str = ""

    @property
    def period(self) -> str:
        """Its row of the periodic table, a Chinese numeral."""
        return PERIODS[sum(self.number > last for last in NOBLE_GASES)]


def read_table() -> list[Element]:
    """All elements in the order of their numbers."""
    rows = enumerate(TABLE.strip().splitlines(), start=1)
    return [Element(number, *line.split(" ")) for number, line in rows]
