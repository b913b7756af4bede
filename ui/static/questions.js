// Questions that a click asks: examples, and those of the heat map.
element.addEventListener('click', (event) => {
  const question = event.target.closest('[data-query]');
  if (question) trigger('click', {query: question.dataset.query});
});
