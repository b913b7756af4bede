// The panel behind the model's name closes by Escape, and when the focus or a click goes elsewhere.
const leave = () => element.querySelector('.model[open]')?.removeAttribute('open');
element.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape' || !element.querySelector('.model[open]')) return;
  leave();
  element.querySelector('.model > summary').focus();
});
element.addEventListener('focusout', (event) => {
  if (event.relatedTarget && !element.contains(event.relatedTarget)) leave();
});
document.addEventListener('pointerdown', (event) => { if (!element.contains(event.target)) leave(); });
