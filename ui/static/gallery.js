// Pages found: a click shows one in full. The first is shown with every search, and marked by the page's server.
element.addEventListener('click', (event) => {
  const card = event.target.closest('[data-page]');
  if (!card) return;
  element.querySelectorAll('[data-page]').forEach((other) => other.setAttribute('aria-current', other === card));
  window.dormouseAddress.openPage(card.dataset.page, {passing: !event.isTrusted});  // keys.js clicks for the arrow keys
  window.dormouseChose = true;
  window.dormousePages.open(card.dataset.page);
});
