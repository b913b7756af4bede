// The picture of the page that is shown in full: larger and smaller, moved, swiped, and its text to select.
// Runs in the head, before anything is shown.
(() => {
  const STEP = 1.25;
  const MOST = 8;
  const SWIPE_PX = 50;
  let zoom = 1;  // times the width of the window; kept from page to page of a document
  let file = '';

  const view = () => document.querySelector('#detail .window');
  const sheetOf = (window_) => window_.querySelector('.sheet');
  // Twice as large as a pixel of the picture is on this screen: beyond there is nothing more to see.
  const limit = (window_) => {
    const own = Number(sheetOf(window_).dataset.width) / (window_.clientWidth * window.devicePixelRatio || 1);
    return Math.min(MOST, Math.max(2, 2 * own));
  };

  // Shows the picture `wanted` times as wide as its window; what is at this point of the screen stays there.
  const zoomTo = (window_, wanted, x, y) => {
    const sheet = sheetOf(window_);
    const before = sheet.getBoundingClientRect();
    const box = window_.getBoundingClientRect();
    const [atX, atY] = [x ?? box.left + window_.clientWidth / 2, y ?? box.top + window_.clientHeight / 2];
    const share = [(atX - before.left) / before.width, (atY - before.top) / before.height];
    zoom = Math.min(limit(window_), Math.max(1, wanted));
    if (zoom < 1.01) zoom = 1;
    window_.style.setProperty('--zoom', zoom);
    window_.classList.toggle('is-zoomed', zoom > 1);
    window_.tabIndex = zoom > 1 || window_.classList.contains('is-long') ? 0 : -1;
    const after = sheet.getBoundingClientRect();
    window_.scrollLeft += after.left + share[0] * after.width - atX;
    window_.scrollTop += after.top + share[1] * after.height - atY;
    const fit = document.querySelector('#detail [data-zoom="0"]');
    if (fit) fit.textContent = `${Math.round(100 * zoom)}%`;
  };

  // Gives each line of the text the width that it has on the picture. A font of its own would be wider or narrower.
  const fitLines = (sheet) => {
    const {clientWidth, clientHeight} = sheet;
    if (!clientWidth) return;
    const lines = [...sheet.querySelectorAll('.line')];
    const sizes = lines.map((line) => [line.offsetWidth, line.offsetHeight]);  // all are read before one is changed
    lines.forEach((line, n) => {
      const tall = line.classList.contains('is-tall');
      const wanted = tall ? line.style.getPropertyValue('--h') * clientHeight : line.style.getPropertyValue('--w') * clientWidth;
      line.style.setProperty('--scale', wanted / (sizes[n][tall ? 1 : 0] || 1));
    });
  };
  const resized = new ResizeObserver((entries) => entries.forEach((entry) => fitLines(entry.target)));

  window.dormouseViewer = {
    // Another page is in the window.
    show() {
      const window_ = view();
      resized.disconnect();
      if (!window_) return;
      const name = document.querySelector('#detail h2').textContent;
      if (name !== file) zoom = 1;
      file = name;
      zoomTo(window_, zoom);
      window_.scrollTo(0, 0);
      resized.observe(sheetOf(window_));
    },

    // `step`: -1 smaller, 1 larger, 0 as wide as the window. Returns whether there is a picture.
    zoom(step) {
      const window_ = view();
      if (!window_?.offsetParent) return false;
      zoomTo(window_, step ? zoom * STEP ** step : 1);
      return true;
    },
  };

  const inWindow = (event) => (event.target instanceof Element ? event.target.closest('#detail .window') : null);
  document.addEventListener('wheel', (event) => {
    const window_ = event.ctrlKey && inWindow(event);
    if (!window_) return;
    event.preventDefault();  // else the browser makes the whole page larger
    const turns = event.deltaMode ? event.deltaY / 3 : event.deltaY / 100;
    zoomTo(window_, zoom * STEP ** -Math.max(-2, Math.min(2, turns)), event.clientX, event.clientY);
  }, {passive: false});

  // A larger picture is moved from where it has no text; from text on, text is selected.
  let drag = null;
  document.addEventListener('mousedown', (event) => {
    const window_ = inWindow(event);
    const moves = event.button === 1 || (event.button === 0 && !event.target.closest('.line'));
    const onBar = window_ && event.target === window_;  // a scroll bar, or beside the picture
    if (!window_?.classList.contains('is-zoomed') || !moves || onBar) return;
    event.preventDefault();
    window.getSelection().removeAllRanges();
    window_.focus({preventScroll: true});
    window_.classList.add('is-moving');
    drag = {window_, x: event.clientX + window_.scrollLeft, y: event.clientY + window_.scrollTop};
  });
  document.addEventListener('mousemove', (event) => {
    if (!drag) return;
    drag.window_.scrollLeft = drag.x - event.clientX;
    drag.window_.scrollTop = drag.y - event.clientY;
  });
  document.addEventListener('mouseup', () => {
    drag?.window_.classList.remove('is-moving');
    drag = null;
  });

  // Two fingers make it larger or smaller; one turns the page, as long as the whole width is in sight.
  let pinch = null, swipe = null;
  const spread = ([a, b]) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
  document.addEventListener('touchstart', (event) => {
    const window_ = inWindow(event);
    const {touches} = event;
    pinch = window_ && touches.length === 2 ? {window_, zoom, spread: spread(touches) || 1} : null;
    swipe = window_ && touches.length === 1 && zoom === 1 ? touches[0] : null;
  }, {passive: true});
  document.addEventListener('touchmove', (event) => {
    if (!pinch || event.touches.length !== 2) return;
    event.preventDefault();
    const [a, b] = event.touches;
    const middle = [(a.clientX + b.clientX) / 2, (a.clientY + b.clientY) / 2];
    zoomTo(pinch.window_, pinch.zoom * spread(event.touches) / pinch.spread, ...middle);
  }, {passive: false});
  document.addEventListener('touchend', (event) => {
    pinch = null;
    const end = event.changedTouches[0];
    if (!swipe || end.identifier !== swipe.identifier || !window.getSelection().isCollapsed) return;
    const [x, y] = [end.clientX - swipe.clientX, end.clientY - swipe.clientY];
    if (Math.abs(x) > SWIPE_PX && Math.abs(x) > 2 * Math.abs(y)) window.dormousePages.turn(x < 0 ? 1 : -1);
    swipe = null;
  });

  // A selection that is drawn over a place without text would jump to another end of the page: there lies something that
  // holds no text, and stands in the document where the selection has got to.
  const guard = document.createElement('div');
  guard.className = 'guard';
  const lineOf = (node) => (node instanceof Element ? node : node?.parentElement)?.closest('#detail .line');
  document.addEventListener('mousedown', (event) => {
    if (event.button === 0 && event.target instanceof Element) lineOf(event.target)?.after(guard);
  });
  document.addEventListener('selectionchange', () => {
    const {anchorNode, focusNode, isCollapsed} = window.getSelection();
    const line = lineOf(focusNode);
    if (!line || isCollapsed) return;
    const back = anchorNode.compareDocumentPosition(focusNode) & Node.DOCUMENT_POSITION_PRECEDING;
    if (back) line.before(guard);
    else line.after(guard);
  });
  document.addEventListener('mouseup', () => guard.remove());
})();
