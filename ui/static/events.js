// What events of the page do in the browser: Gradio calls these with the values of an event's inputs, and puts what they
// return into its outputs (ui/components/events.py).
window.dormouse = {
  arrive(usual, collection, top_k, server) {
    window.dormouseAddress.arrive(String(usual), {collection: collection ?? '', top_k: String(top_k), server: server ?? ''});
  },

  move(collection, server) {
    window.dormouseAddress.move({collection: collection ?? '', server: server ?? ''});
  },

  chooseTab(chosen) {
    window.dormouseAddress.chooseTab(chosen);
  },

  forgetEntry() {
    window.dormouseAddress.forget();
  },

  // Tells the pill (status.js), which then follows that server's engine.
  followServer(name) {
    window.dispatchEvent(new CustomEvent('dormouse-target', {detail: name ?? ''}));
  },

  confirmScaledown(name) {
    return [name, window.confirm(
      'Scale down now? Requests in progress are finished first. The next search waits for a start.')];
  },

  endTurn() {
    window.dormousePages.end();
  },

  // What was found on a page is shown only if the button that asked for it (detail.js) is still there: a button loses
  // its mark as soon as anything else is shown.
  showParts(answer, now) {
    const [token, found] = JSON.parse(answer);
    const button = document.querySelector(`#detail [data-pending="${token}"]`);
    if (!button) return now;
    delete button.dataset.pending;
    button.nextElementSibling.textContent = '';
    window.dormouseLooked = true;
    return found;
  },

  forgetParts() {
    document.querySelectorAll('#detail [data-pending]').forEach((button) => {
      delete button.dataset.pending;
      button.nextElementSibling.textContent = 'That did not work. Try again.';
    });
  },
};
