element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-copy]');
  if (!button) return;
  const url = new URL(button.dataset.copy, window.location).href;
  navigator.clipboard?.writeText(url).then(() => { button.textContent = 'Copied'; });
});
