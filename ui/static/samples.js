// Says where the vectors of the sample pages come from: a click has the pages read again.
element.addEventListener('click', (event) => {
  if (event.target.closest('[data-again]')) trigger('click');
});
