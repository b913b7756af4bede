"""Pages from daily affairs: a timetable, a form, letters, a curriculum vitae, notices."""

from PIL import Image

from .canvas import Canvas, Column, Style, TableLook

_INK = "#222831"

_TIMETABLE = [
    ("Haltestelle", "Kurs 1", "Kurs 3", "Kurs 5", "Kurs 7", "Kurs 9"),
    ("Quellbad, Kurpark", "07:10", "09:25", "12:40", "15:55", "18:30"),
    ("Moorbach", "07:28", "09:43", "12:58", "16:13", "18:48"),
    ("Insel Sankt Gerold", "07:51", "10:06", "13:21", "16:36", "–"),
    ("Hirschhalden", "08:09", "10:24", "13:39", "16:54", "19:06"),
    ("Altenried, Schlosssteg", "08:32", "10:47", "14:02", "17:17", "19:29"),
    ("Neumünde, Bahnhof", "08:55", "11:10", "14:25", "17:40", "19:52"),
]
_FARES = [
    ("Fahrpreise in Euro", "Einfach", "Hin und zurück"),
    ("Erwachsene, ganze Strecke", "14,80", "25,00"),
    ("Kinder von 6 bis 15 Jahren", "7,40", "12,50"),
    ("Fahrrad", "6,00", "10,00"),
    ("Hund", "4,50", "8,00"),
]
_FERRY_NOTES = [
    "Kurs 1 verkehrt nur montags bis freitags, nicht an Feiertagen.",
    "Kurs 9 fährt vom 1. Juni bis 15. September und hält nicht auf der Insel.",
    "Bei Sturmwarnung fällt die Anlegestelle Hirschhalden aus. Auskunft: 0700 555 0142.",
]


def timetable() -> Image.Image:
    """A German boat timetable with fares."""
    page = Canvas(paper="#f3f9fb")
    blue, sky = "#0b4f6c", "#8fd0e0"
    page.box(0, 0, 1240, 330, blue)
    for number in range(7):
        x = 110 + number * 180
        page.arc(x, 300, 90, 200, 340, sky, 4)
    page.shape([(900, 196), (1120, 196), (1086, 238), (926, 238)], "#ffffff")
    page.box(952, 158, 1060, 196, "#f2b134")
    page.line([(1006, 158), (1006, 96)], "#ffffff", 4)
    page.shape([(1008, 96), (1056, 110), (1008, 124)], "#d1495b")
    page.text(90, 136, "Quellsee-Schifffahrt", Style("title-bold", 62, "#ffffff"))
    sub = Style("sans", 28, "#d5edf3")
    page.text(90, 196, "Sommerfahrplan, gültig 4. Mai bis 27. Oktober 2025", sub)
    body = Style("sans", 25, _INK)
    look = TableLook(
        head=Style("sans-bold", 24, "#ffffff"),
        body=body,
        head_fill="#16789b",
        stripe="#e2f1f5",
        rule="#c2dde5",
        row=66,
    )
    times = [Column(360), *(Column(140, "m") for _ in range(5))]
    y = page.table(90, 400, times, _TIMETABLE, look)
    fares = [Column(560), Column(220, "r"), Column(280, "r")]
    y = page.table(90, y + 70, fares, _FARES, look)
    page.text(90, y + 90, "Bitte beachten", Style("sans-bold", 28, blue))
    page.bullets(90, y + 140, 1060, _FERRY_NOTES, body)
    foot = Style("sans", 21, "#5b7c88")
    page.text(90, 1700, "Reederei Quellsee · Am Hafen 2 · Quellbad", foot)
    return page.finish()


_FORM_ROWS = [
    [("Cognome", "Bellandi", 520), ("Nome", "Caterina", 520)],
    [("Data di nascita", "12 aprile 2013", 520), ("Luogo di nascita", "Rocca Sarda", 520)],
    [("Indirizzo", "Via dei Gelsi 27, Pontelago", 760), ("CAP", "38099", 280)],
    [("Genitore o tutore", "Marta Bellandi", 520), ("Telefono", "0555 014 782", 520)],
]
_COURSES = [
    ("Principianti – martedì e giovedì, ore 16:30", False),
    ("Intermedio – lunedì e mercoledì, ore 17:15", True),
    ("Agonistica – tutti i giorni, ore 18:45", False),
]
_FORM_NOTE = (
    "La quota trimestrale è di 145 euro e comprende la cuffia della società. Allegare "
    "il certificato medico non agonistico rilasciato da meno di dodici mesi. Il posto "
    "è confermato solo dopo il pagamento della caparra di 40 euro."
)


def form() -> Image.Image:
    """An Italian enrolment form, filled in with a blue pen."""
    page = Canvas(paper="#fffefb")
    teal = "#00798c"
    page.box(60, 60, 1180, 1694, None, teal, 3, 18)
    page.box(60, 60, 1180, 230, teal, radius=18)
    page.box(60, 200, 1180, 230, teal)
    page.text(110, 138, "Modulo di iscrizione", Style("title-bold", 56, "#ffffff"))
    page.text(110, 194, "Scuola nuoto Delfino – stagione 2025/26", Style("sans", 28, "#d7f0f3"))
    page.text(1130, 138, "N. 0438", Style("mono-bold", 30, "#ffffff"), "rs")
    label = Style("sans-bold", 22, teal)
    pen = Style("serif-italic", 30, "#1b3fa0")
    page.text(110, 296, "1. Dati dell’allievo", label.but(size=26))
    y = 330.0
    for row in _FORM_ROWS:
        x = 110.0
        for name, value, width in row:
            _field(page, x, y, width - 20, name, value)
            x += width
        y += 122
    page.text(110, y + 42, "2. Corso scelto", label.but(size=26))
    for text, chosen in _COURSES:
        y += 62
        page.box(112, y + 18, 144, y + 50, "#ffffff", teal, 2.5, 5)
        if chosen:
            page.line([(118, y + 32), (128, y + 44), (150, y + 10)], pen.color, 5)
        page.text(166, y + 43, text, Style("sans", 26, _INK))
    page.text(110, y + 130, "3. Condizioni", label.but(size=26))
    y = page.block(110, y + 176, 1020, _FORM_NOTE, Style("sans", 25, _INK))
    page.text(110, y + 34, "Allergie o note mediche:", label)
    page.text(430, y + 34, "asma lieve, porta l’inalatore", pen)
    page.rule(420, 1130, y + 46, "#9bb8bd", 1.5)
    _signature(page, label, pen)
    return page.finish()


def _field(page: Canvas, x: float, y: float, width: float, name: str, value: str) -> None:
    page.text(x, y + 22, name, Style("sans", 20, "#57767b"))
    page.box(x, y + 32, x + width, y + 96, "#f0f8f9", "#9bc5cc", 1.5, 8)
    page.text(x + 20, y + 74, value, Style("serif-italic", 30, "#1b3fa0"))


def _signature(page: Canvas, label: Style, pen: Style) -> None:
    page.text(110, 1600, "Data", label)
    page.text(185, 1600, "3 settembre 2025", pen)
    page.rule(175, 470, 1612, "#9bb8bd", 1.5)
    page.text(590, 1600, "Firma del genitore", label)
    page.text(840, 1598, "Marta Bellandi", pen.but("title-italic", 38))
    page.rule(810, 1130, 1612, "#9bb8bd", 1.5)


_LETTER = [
    "Madame la Syndique,",
    "Depuis le 8 janvier, l’eau s’infiltre par la toiture au-dessus de mon palier, au "
    "quatrième étage du bâtiment B. Après chaque averse, une flaque se forme devant la "
    "porte de l’ascenseur et le plâtre du plafond commence à se détacher.",
    "J’ai signalé ce désordre par téléphone le 10 janvier, puis par courriel le "
    "22 janvier, sans obtenir de date d’intervention. Mon voisin, monsieur Lachaume, "
    "a glissé hier matin et s’est foulé le poignet.",
    "Je vous demande donc de faire réparer la couverture avant le 28 février et "
    "d’installer sans attendre une bâche et un tapis antidérapant. À défaut, je "
    "saisirai le conseil syndical et demanderai une expertise aux frais de la "
    "copropriété.",
    "Vous trouverez ci-joint six photographies ainsi que le devis de l’entreprise "
    "Ardoise & Zinc, d’un montant de 3 460 euros.",
    "Je vous prie d’agréer, Madame la Syndique, mes salutations distinguées.",
]


def letter() -> Image.Image:
    """A French letter of complaint."""
    page = Canvas(paper="#fdfbf5")
    ink = Style("serif", 25, "#26231f")
    page.text(120, 150, "Éloïse Marchandeau", ink.but(face="title-bold", size=40))
    page.rule(120, 460, 176, "#9c3d2e", 3)
    home = "18, rue des Sorbiers, bâtiment B\n69990 Valmorin\neloise@marchandeau.example"
    page.block(120, 214, 520, home, ink.but(size=22, color="#5d554c"), 1.5)
    recipient = "Cabinet Ferrand-Duval\nÀ l’attention de Mme Ferrand\n5, place de l’Octroi\n69990 Valmorin"
    page.block(700, 380, 460, recipient, ink, 1.5)
    page.text(700, 590, "Valmorin, le 3 février 2025", ink)
    page.text(120, 590, "Lettre recommandée", ink.but(face="serif-italic", size=23))
    page.text(120, 680, "Objet : infiltration d’eau par la toiture", ink.but("serif-bold"))
    y = 750.0
    for paragraph in _LETTER:
        y = page.block(120, y, 1000, paragraph, ink, 1.55, "j") + 24
    sign = Style("title-italic", 46, "#20356b")
    page.text(700, y + 76, "É. Marchandeau", sign)
    page.line([(690, y + 96), (860, y + 88), (1060, y + 100)], "#20356b", 2)
    page.text(120, 1660, "P.-J. : six photographies, un devis", ink.but(size=21))
    return page.finish()


_CV_LEFT = [
    ("Kontakt", "Erlenweg 9\n7820 Tannau\n0700 555 0188\njonas@feldweg.example"),
    ("Sprachen", "Deutsch (Muttersprache)\nEnglisch (C1)\nPolnisch (B1)"),
    ("Kenntnisse", "Revit und AutoCAD\nHolzbaustatik\nLehmputz\nBrandschutz\nFührerschein BE"),
    ("Freizeit", "Bergrettung\nPosaune im Musikverein"),
]
_CV_JOBS = [
    (
        "seit 2021",
        "Bauleiter, Zimmerei Holdermann, Tannau",
        "Leitung von elf Aufstockungen in Holzrahmenbauweise; Terminplanung, Abnahme "
        "und Kostenkontrolle bis 1,8 Millionen Euro.",
    ),
    (
        "2017 – 2021",
        "Projektzeichner, Büro Lindauer & Esch, Marbrück",
        "Werkpläne für Kindergärten und eine Turnhalle, Betreuung von drei Auszubildenden.",
    ),
    (
        "2014 – 2017",
        "Geselle, Zimmerei Vogt, Obersteig",
        "Dachstühle, Treppenbau und Sanierung denkmalgeschützter Scheunen.",
    ),
]
_CV_SCHOOL = [
    ("2019 – 2021", "Meisterprüfung im Zimmererhandwerk, Note 1,4", ""),
    ("2011 – 2014", "Ausbildung zum Zimmerer, Berufsschule Marbrück", ""),
    ("2011", "Mittlere Reife, Realschule Obersteig", ""),
]


def resume() -> Image.Image:
    """A German curriculum vitae with a coloured side column."""
    page = Canvas()
    green = "#2f4a3c"
    page.box(0, 0, 400, 1754, green)
    page.dot(200, 220, 116, "#c9d8c5")
    page.text(200, 254, "JF", Style("title-bold", 96, green), "ms")
    y = 440.0
    for title, lines in _CV_LEFT:
        page.text(60, y, title, Style("sans-bold", 26, "#c9d8c5"))
        page.rule(60, 340, y + 14, "#587a66", 2)
        y = page.block(60, y + 54, 320, lines, Style("sans", 22, "#ffffff"), 1.55) + 44
    page.text(460, 150, "Jonas Feldweg", Style("title-bold", 68, green))
    page.text(462, 204, "Zimmerermeister und Bauleiter", Style("sans", 30, "#7a6a4f"))
    profile = (
        "Ich baue gern mit Holz und rechne genau. Gesucht: eine Stelle mit "
        "Verantwortung für mehrgeschossige Holzbauten, ab Januar 2026."
    )
    body = Style("sans", 23, _INK)
    page.block(462, 276, 700, profile, body.but(face="serif-italic", size=26), 1.5)
    y = _stations(page, 430, "Berufserfahrung", _CV_JOBS)
    y = _stations(page, y + 40, "Ausbildung", _CV_SCHOOL)
    page.text(462, y + 50, "Tannau, 6. Oktober 2025", body.but(color="#6b6b6b"))
    return page.finish()


def _stations(page: Canvas, y: float, title: str, stations: list[tuple[str, str, str]]) -> float:
    page.text(462, y, title, Style("sans-bold", 30, "#2f4a3c"))
    page.rule(462, 1160, y + 18, "#c9d8c5", 3)
    y += 76
    for years, role, detail in stations:
        page.text(462, y, years, Style("sans-bold", 21, "#a0762c"))
        y = page.block(462, y + 40, 700, role, Style("sans-bold", 25, _INK), 1.45)
        if detail:
            y = page.block(462, y + 2, 700, detail, Style("sans", 23, "#444c55"))
        y += 28
    return y


_NOTICE = [
    "各位住户：",
    "因地下二层供水主管更换阀门，本小区将于 11 月 18 日（星期二）上午 8:30 至下午 "
    "5:00 停水，影响范围为 3 号楼至 7 号楼，其余楼栋不受影响。",
    "请您提前储水，并在停水期间关好水龙头，以免来水后溢水。恢复供水后，水质可能短时"
    "发黄，请先放水三至五分钟再使用。热水器请在停水前切断电源。",
    "临时取水点设在东门岗亭旁，每户限取 20 升。行动不便的老人可致电物业，由工作人员送水上门。",
    "给您带来不便，敬请谅解。",
]


def notice_water() -> Image.Image:
    """A Chinese notice about a day without water."""
    page = Canvas(paper="#fffaf2")
    red = "#b3261e"
    page.box(50, 50, 1190, 1704, None, red, 5, 6)
    page.box(66, 66, 1174, 1688, None, red, 1.5, 4)
    page.shape([(620, 130), (668, 212), (572, 212)], "#2a86b8")
    page.dot(620, 226, 50, "#2a86b8")
    page.arc(620, 226, 32, 20, 100, "#ffffff", 7)
    page.spaced(620, 400, "停水通知", Style("zh-serif-bold", 92, red), 26, "m")
    page.rule(420, 820, 446, red, 3)
    ink = Style("zh-serif", 33, "#2b2320")
    y = 540.0
    for number, paragraph in enumerate(_NOTICE):
        text = paragraph if number == 0 else "　　" + paragraph
        y = page.block(140, y, 960, text, ink, 1.75) + 18
    page.box(140, y - 10, 1100, y + 104, "#fbe6dc", radius=10)
    call = Style("zh-bold", 33, red)
    page.text(620, y + 60, "物业值班电话：0400-555-0163（24 小时）", call, "ms")
    page.text(1100, y + 200, "翠屏苑物业服务中心", ink, "rs")
    page.text(1100, y + 258, "2025 年 11 月 14 日", ink, "rs")
    page.oval(960, y + 196, 92, 92, None, "#b3261e99", 5)
    return page.finish()


_HINDI = [
    ("दिन", "समय", "कार्यक्रम"),
    ("सोमवार", "सुबह ७ बजे", "योग कक्षा"),
    ("मंगलवार", "शाम ५ बजे", "बच्चों की कहानी"),
    ("बुधवार", "सुबह १० बजे", "सिलाई और कढ़ाई"),
    ("गुरुवार", "शाम ६ बजे", "संगीत अभ्यास"),
    ("शनिवार", "दोपहर ३ बजे", "पुस्तक वाचन"),
]


def notice_hindi() -> Image.Image:
    """A Hindi programme of a community centre, which the reader cannot read."""
    page = Canvas(paper="#fff7ea")
    deep, gold = "#7a1f3d", "#e8a13a"
    page.box(0, 0, 1240, 380, deep)
    for number in range(24):
        page.wedge(26 + number * 54, 380, 27, 0, 180, deep)
    white = Style("hindi-bold", 78, "#ffffff")
    page.text(620, 180, "सूरजपुर सामुदायिक केंद्र", white, "ms")
    page.text(620, 272, "साप्ताहिक कार्यक्रम", Style("hindi", 46, "#f6d9a8"), "ms")
    look = TableLook(
        head=Style("hindi-bold", 34, "#ffffff"),
        body=Style("hindi", 34, "#3b2430"),
        head_fill=gold,
        stripe="#fdebd0",
        rule="#ecd2a6",
        row=112,
    )
    columns = [Column(300), Column(320), Column(440)]
    y = page.table(90, 520, columns, _HINDI, look)
    text = Style("hindi", 33, "#3b2430")
    body = "सभी कार्यक्रम निःशुल्क हैं। कृपया दस मिनट पहले आएँ और अपना नाम लिखवाएँ। रविवार और त्योहार के दिन केंद्र बंद रहता है।"
    page.block(90, y + 100, 1060, body, text, 1.8)
    page.text(620, 1590, "स्वागत है", Style("hindi-bold", 60, deep), "ms")
    return page.finish()
