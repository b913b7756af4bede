// Times what a person sees, by the browser's own clock: from an input to the frame after the one that shows its answer.
(() => {
  const LONGEST_MS = 60_000;
  // The first callback runs before the frame with the change is painted, the second after it.
  const painted = () => new Promise((done) =>
    requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))));
  const late = (what) => new Promise((_, fail) =>
    setTimeout(() => fail(new Error(`${what} was not seen within ${LONGEST_MS / 1000} s`)), LONGEST_MS));
  const observed = (found) => new Promise((done) => {
    const look = () => {
      const element = found();
      if (element) { observer.disconnect(); done(element); }
    };
    const observer = new MutationObserver(look);
    observer.observe(document, {childList: true, subtree: true, attributeFilter: ['src']});
    look();
  });
  const loaded = (image) => image.complete ? null : new Promise((done) => {
    image.addEventListener('load', done, {once: true});
    image.addEventListener('error', done, {once: true});
  });
  const asked = (began) => {
    const entry = performance.getEntriesByType('resource')
      .find(({name, startTime}) => name.includes('/queue/join') && startTime >= began);
    return entry ? {sent: entry.startTime - began, queued: entry.responseEnd - entry.startTime} : {};
  };

  // `kind`: of the input that is waited for; `image`: the picture that answers it, another one than now.
  window.dormouseArm = (kind, image) => {
    const before = document.querySelector(image)?.getAttribute('src');
    performance.clearResourceTimings();
    let began;
    document.addEventListener(kind, (event) => { began = event.timeStamp; }, {capture: true, once: true});
    const answer = async () => {
      const found = await observed(() => {
        const element = began === undefined ? null : document.querySelector(image);
        return element && element.getAttribute('src') !== before ? element : null;
      });
      const answered = performance.now();
      await loaded(found);
      await found.decode();
      const decoded = performance.now();
      const end = await painted();
      return {total: end - began, ...asked(began), answered: answered - began, picture: decoded - answered,
        frame: end - decoded};
    };
    window.dormouseTimed = Promise.race([answer(), late(image)]);
    window.dormouseTimed.catch(() => {});  // told to who asks for it
  };

  const usable = () => document.querySelector('#files :is(.files, .empty)') && document.querySelector('#ask textarea');
  window.dormouseOpened = Promise.race([observed(usable).then(painted), late('the page with its collection')]);
  window.dormouseOpened.catch(() => {});
})();
