// Pages found: a click shows one in full. The first is shown with every search, and marked by the page's server.
let wanted = '';  // the page that was clicked last, until it is shown
const show = (page) => { wanted = page; trigger('click', {page}); };
element.addEventListener('click', (event) => {
  const card = event.target.closest('[data-page]');
  if (!card) return;
  element.querySelectorAll('[data-page]').forEach((other) => other.setAttribute('aria-current', other === card));
  window.dormouseAddress.openPage(card.dataset.page, !event.isTrusted);  // keys.js clicks for the arrow keys
  window.dormouseChose = true;
  show(card.dataset.page);
});
watch('value', () => { wanted = ''; });
// Answers to quick clicks may come in another order.
window.addEventListener('dormouse-detail', ({detail}) => setTimeout(() => {
  if (wanted && detail && detail !== wanted) show(wanted);
  else wanted = '';
}));
