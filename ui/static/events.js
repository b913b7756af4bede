// What events of the page do in the browser: Gradio calls these with the values of an event's inputs, and puts what they
// return into its outputs (ui/components/events.py).
const setAddress = (values, usual) => {
  const url = new URL(window.location);
  for (const [name, value] of Object.entries(values)) {
    if (value === '' || (name === 'k' && value === String(usual))) url.searchParams.delete(name);
    else url.searchParams.set(name, value);
  }
  window.history.replaceState(null, '', url);
};

window.dormouse = {
  // Puts what is asked into the address, so that it can be shared and reloaded. `usual`: the top_k that is left out.
  shareSearch(usual, collection, top_k, target, query) {
    // Gradio sends the address along with every call, and a server takes only so long a one.
    setAddress({c: collection ?? '', k: String(top_k), t: target ?? '', q: query.slice(0, 2000)}, usual);
  },

  // The same without the question: while the page opens, somebody may be typing one that is not asked yet.
  sharePlace(usual, collection, top_k, target) {
    setAddress({c: collection ?? '', k: String(top_k), t: target ?? ''}, usual);
  },

  // Tells the pill (status.js), which then follows that server's engine.
  followServer(name) {
    window.dispatchEvent(new CustomEvent('dormouse-target', {detail: name ?? ''}));
  },

  confirmScaledown(name) {
    return [name, window.confirm(
      'Scale down now? Requests in progress are finished first. The next search waits for a start.')];
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
