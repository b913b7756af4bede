"""A page in a browser, in each of the looks that a person may see it in."""

from __future__ import annotations

from playwright.sync_api import BrowserContext, Page, expect

WIDE = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
LOOKS = {
    "desktop": {"viewport": WIDE},
    "dark": {"viewport": WIDE, "color_scheme": "dark"},
    "phone": {"viewport": PHONE, "is_mobile": True, "has_touch": True, "device_scale_factor": 2},
    "phone-dark": {"viewport": PHONE, "is_mobile": True, "has_touch": True, "color_scheme": "dark"},
}
expect.set_options(timeout=60_000)

CONTRAST = """(selector) => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const element = document.querySelector(selector);
  let ground = element;
  while (ground && (parse(getComputedStyle(ground).backgroundColor)[3] ?? 1) === 0) ground = ground.parentElement;
  const [a, b] = [light(parse(getComputedStyle(element).color)),
    light(parse(getComputedStyle(ground ?? document.body).backgroundColor))];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""
"""Of the text in an element, as WCAG counts it."""


class Visit:
    """A page in a browser, with what went wrong in it."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.url = url
        self.page: Page = context.new_page()
        self.page.set_default_timeout(60_000)
        self.faults: list[str] = []
        self.outside: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on(
            "console", lambda said: said.type == "error" and self.faults.append(f"{said.text} {said.location}")
        )
        self.page.on("request", lambda asked: self.see(asked.url, url))

    def see(self, asked: str, url: str) -> None:
        if not asked.startswith((url, "data:", "blob:")):
            self.outside.append(asked)

    def open(self, url: str) -> Page:
        self.page.goto(url)
        expect(self.page.locator("#files :is(.empty, .files)")).to_be_visible()
        return self.page

    @property
    def width(self) -> int:
        """What the page needs; more than the window has would scroll it sideways."""
        return int(self.page.evaluate("document.documentElement.scrollWidth"))
