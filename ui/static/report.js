// The report's frame is as tall as what is in it, at any width: the page has one scrollbar, and no plot is cut.
const fit = (frame) => {
  const content = frame.contentDocument.documentElement.getBoundingClientRect().height;
  if (content) frame.style.height = `${Math.ceil(content) + frame.offsetHeight - frame.clientHeight}px`;
};
element.addEventListener('load', ({target: frame}) => {
  const view = frame.contentWindow;
  if (frame.tagName !== 'IFRAME' || !frame.contentDocument?.body) return;
  // The frame's own observer: it also hears when the tab is shown, and it ends with its document.
  new view.ResizeObserver(() => fit(frame)).observe(frame.contentDocument.documentElement);
}, true);
