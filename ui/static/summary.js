// The line above the pages found: how long their final ranking is waited for, and a button to ask for it again.
let timer = 0;
const tick = (span, began) => {
  if (!span.isConnected) return clearInterval(timer);
  const seconds = (performance.now() - began) / 1000;
  span.textContent = seconds < 10 ? `, ${seconds.toFixed(1)} s` : `, ${Math.floor(seconds)} s`;
};
watch('value', () => {
  clearInterval(timer);
  const span = element.querySelector('[data-elapsed]');
  if (!span) return;
  const began = performance.now();
  timer = setInterval(() => tick(span, began), 100);
});
element.addEventListener('click', (event) => {
  if (event.target.closest('[data-again]')) document.querySelector('#search')?.click();
});
