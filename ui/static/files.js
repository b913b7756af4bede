// The files of a collection: a click deletes one, or all. They come in the order they were added, and are sorted here.
let chosen = 'oldest';
const compare = {
  name: (a, b) => a.dataset.name.localeCompare(b.dataset.name, undefined, {numeric: true}),
  pages: (a, b) => b.dataset.pages - a.dataset.pages,
};
const sort = () => {
  const list = element.querySelector('.files ul');
  const select = element.querySelector('[data-sort]');
  if (!select) return;
  select.value = chosen;
  [...list.children].forEach((file, n) => { file.dataset.at ??= n; });
  const order = chosen === 'newest' ? (a, b) => b.dataset.at - a.dataset.at : compare[chosen] ?? (() => 0);
  list.append(...[...list.children].sort((a, b) => order(a, b) || a.dataset.at - b.dataset.at));
};
element.addEventListener('change', (event) => {
  if (!event.target.closest('[data-sort]')) return;
  chosen = event.target.value;
  sort();
});
watch('value', sort);
element.addEventListener('click', (event) => {
  const file = event.target.closest('[data-file]');
  if (file) trigger('click', {file: file.dataset.file});
  if (event.target.closest('[data-collection]')) trigger('click', {file: ''});
});
