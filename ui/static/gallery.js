// Pages found: a click shows one in full. The first is shown with every search.
element.addEventListener('click', (event) => {
  const card = event.target.closest('[data-page]');
  if (!card) return;
  element.querySelectorAll('[data-page]').forEach((other) => other.setAttribute('aria-current', other === card));
  window.dormouseChose = true;
  trigger('click', {page: card.dataset.page});
});
watch('value', () => element.querySelector('[data-page]')?.setAttribute('aria-current', 'true'));
