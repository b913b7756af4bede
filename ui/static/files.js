// The files of a collection: a click deletes one, or all.
element.addEventListener('click', (event) => {
  const file = event.target.closest('[data-file]');
  if (file) trigger('click', {file: file.dataset.file});
  if (event.target.closest('[data-collection]')) trigger('click', {file: ''});
});
