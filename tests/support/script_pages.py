"""Draws pages in several scripts, each a notice about the same swimming pool, as clean scans or as photographs."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

NOTICES = {
    "Cyrillic": [
        "Правила пользования бассейном",
        "Бассейн открыт ежедневно с 7:00 до 21:30, кроме понедельника.",
        "Перед входом в воду посетители принимают душ.",
        "Дети до десяти лет купаются только вместе со взрослыми.",
        "Билет на один час стоит 350 рублей, на месяц 2400 рублей.",
        "Потерянные вещи хранятся у дежурного тридцать дней.",
    ],
    "Greek": [
        "Κανονισμός του κολυμβητηρίου",
        "Το κολυμβητήριο είναι ανοιχτό από τις 7:00 έως τις 21:30.",
        "Πριν μπείτε στο νερό πρέπει να κάνετε ντους.",
        "Παιδιά κάτω των δέκα ετών κολυμπούν μόνο με ενήλικες.",
        "Το εισιτήριο μιας ώρας κοστίζει 350 δραχμές.",
        "Τα χαμένα αντικείμενα φυλάσσονται για τριάντα ημέρες.",
    ],
    "Arabic": [
        "قواعد استخدام المسبح",
        "المسبح مفتوح كل يوم من الساعة السابعة صباحا حتى التاسعة مساء",
        "يجب على الزوار الاستحمام قبل الدخول إلى الماء",
        "يسبح الأطفال دون سن العاشرة مع الكبار فقط",
        "سعر التذكرة لمدة ساعة واحدة خمسون درهما",
        "تحفظ الأشياء المفقودة عند المشرف ثلاثين يوما",
    ],
    "Devanagari": [
        "तरणताल के नियम",
        "तरणताल सुबह सात बजे से रात नौ बजे तक खुला रहता है",
        "पानी में जाने से पहले सभी लोग स्नान करें",
        "दस साल से छोटे बच्चे केवल बड़ों के साथ तैर सकते हैं",
        "एक घंटे का टिकट 350 रुपये का है",
        "खोई हुई वस्तुएं तीस दिन तक कार्यालय में रखी जाती हैं",
    ],
    "Korean": [
        "수영장 이용 규칙",
        "수영장은 매일 오전 7시부터 오후 9시까지 열려 있습니다.",
        "물에 들어가기 전에 반드시 샤워를 하십시오.",
        "열 살 미만의 어린이는 어른과 함께 수영해야 합니다.",
        "한 시간 이용권은 3500원이고 한 달 이용권은 24000원입니다.",
        "분실물은 사무실에서 삼십 일 동안 보관합니다.",
    ],
    "Hebrew": [
        "תקנון השימוש בבריכה",
        "הבריכה פתוחה בכל יום משבע בבוקר עד תשע בערב",
        "יש להתקלח לפני הכניסה למים",
        "ילדים מתחת לגיל עשר ישחו רק עם מבוגרים",
        "מחיר כרטיס לשעה אחת הוא חמישים שקלים",
        "אבידות נשמרות במשרד במשך שלושים יום",
    ],
    "Thai": [
        "กฎการใช้สระว่ายน้ำ",
        "สระว่ายน้ำเปิดทุกวันตั้งแต่เจ็ดโมงเช้าถึงสามทุ่ม",
        "กรุณาอาบน้ำก่อนลงสระ",
        "เด็กอายุต่ำกว่าสิบปีต้องว่ายน้ำกับผู้ใหญ่เท่านั้น",
        "ค่าเข้าหนึ่งชั่วโมงราคาห้าสิบบาท",
        "ของหายจะเก็บไว้ที่สำนักงานสามสิบวัน",
    ],
    "Latin": [
        "Rules of the swimming pool",
        "The pool is open daily from 7:00 to 21:30 except on Mondays.",
        "Please take a shower before you enter the water.",
        "Children under ten swim only together with an adult.",
        "A ticket for one hour costs 350 crowns, for a month 2400.",
        "Lost property is kept at the office for thirty days.",
    ],
    "Chinese": [
        "游泳池使用规则",
        "游泳池每天早上七点至晚上九点半开放，星期一除外。",
        "下水之前请先淋浴。",
        "十岁以下儿童须由成人陪同游泳。",
        "一小时门票三十五元，月票二百四十元。",
        "失物在办公室保存三十天。",
    ],
    "Japanese": [
        "プールのご利用について",
        "プールは毎日午前七時から午後九時半まで開いています。",
        "水に入る前に必ずシャワーを浴びてください。",
        "十歳未満のお子様は大人と一緒に泳いでください。",
        "一時間の料金は三百五十円、一か月は二千四百円です。",
        "忘れ物は事務所で三十日間保管します。",
    ],
}
"""Lines of each script. The last three are scripts that the built-in reader has letters for."""
ROOT = "/usr/share/fonts/"
CJK = "opentype/noto/NotoSansCJK-Regular.ttc"
FONTS = {
    "Arabic": ("truetype/noto/NotoNaskhArabic-Regular.ttf", 0),
    "Devanagari": ("truetype/noto/NotoSansDevanagari-Regular.ttf", 0),
    "Hebrew": ("truetype/noto/NotoSansHebrew-Regular.ttf", 0),
    "Thai": ("truetype/noto/NotoSansThai-Regular.ttf", 0),
    "Korean": (CJK, 1),
    "Chinese": (CJK, 2),
    "Japanese": (CJK, 0),
}
"""File and index inside a collection; other scripts are in Noto Sans."""
RIGHT_TO_LEFT = ("Arabic", "Hebrew")


def draw_notice(
    script: str, lines: list[str] | None = None, size: tuple[int, int] = (1240, 1754), letters: int = 34
) -> Image.Image:
    """Return an RGB page with the lines (those of NOTICES) in a font `letters` pixels high."""
    file, index = FONTS.get(script, ("truetype/noto/NotoSans-Regular.ttf", 0))
    font = ImageFont.truetype(ROOT + file, letters, index=index)
    page = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(page)
    right = script in RIGHT_TO_LEFT
    for row, text in enumerate(NOTICES[script] if lines is None else lines):
        at = (size[0] - 3 * letters if right else 3 * letters, (3 + 2 * row) * letters)
        pen.text(at, text, fill="black", font=font, anchor="rm" if right else "lm")
    return page


def draw_landscape(size: tuple[int, int] = (1240, 930), seed: int = 7) -> Image.Image:
    """Return a picture without a letter: hills, clouds and leaves with the grain of a photograph."""
    random = np.random.default_rng(seed)
    width, height = size
    sky = np.linspace((120, 170, 230), (230, 235, 245), height)[:, None].repeat(width, axis=1)
    page = Image.fromarray(sky.astype(np.uint8))
    pen = ImageDraw.Draw(page)
    for hill in range(5):
        top = height * (0.4 + hill / 9)
        ridge = top + np.cumsum(random.normal(0, 3, width))
        colour = (60 + 10 * hill, 110 - 14 * hill, 60)
        pen.polygon([(0, height), *zip(range(width), ridge, strict=True), (width, height)], fill=colour)
    for x, y in random.uniform((0, height * 0.6), (width, height), (900, 2)):
        pen.line((x, y, x + random.normal(0, 9), y - random.uniform(5, 40)), fill=(30, 80, 30), width=2)
    grain = np.asarray(page.filter(ImageFilter.GaussianBlur(1)), np.float32) + random.normal(0, 8, (height, width, 1))
    return Image.fromarray(grain.clip(0, 255).astype(np.uint8))
