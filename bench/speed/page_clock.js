// Times what a person sees, by the browser's own clock: from an input to the frame after the one that shows its answer.
(() => {
  const LONGEST_MS = 60_000;
  // The first callback runs before the frame with the change is painted, the second after it.
  const painted = () => new Promise((done) =>
    requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))));
  const late = (what) => new Promise((_, fail) =>
    setTimeout(() => fail(new Error(`${what} was not seen within ${LONGEST_MS / 1000} s`)), LONGEST_MS));
  const until = (place, seen) => new Promise((done) => {
    const observer = new MutationObserver(() => {
      if (seen()) { observer.disconnect(); done(); }
    });
    observer.observe(place, {childList: true, subtree: true, attributes: true, characterData: true});
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

  // `kind`: of the input that is waited for, and for each answer to it `box`: what changes by it and by nothing else;
  // `image`: its first picture is waited for. Gradio changes the elements that are there, all of them before an observer hears of it.
  const time = (kind, box, image) => {
    performance.clearResourceTimings();
    const content = () => document.querySelector(box)?.innerHTML;
    const before = content();
    let began;
    document.addEventListener(kind, (event) => { began = event.timeStamp; }, {capture: true, once: true});
    const answer = async () => {
      await until(document, () => began !== undefined && document.querySelector(`${box} ${image}`) && content() !== before);
      const answered = performance.now();
      const pages = [...document.querySelectorAll(`${box} [data-page]`)].map((card) => card.dataset.page);
      const found = document.querySelector(`${box} ${image}`);
      await loaded(found);
      await found.decode();
      if (found.currentSrc !== found.src) throw new Error(`${found.src} was not shown`);
      const decoded = performance.now();
      const end = await painted();
      return {total: end - began, ...asked(began), answered: answered - began, picture: decoded - answered,
        frame: end - decoded, pages};
    };
    return Promise.race([answer(), late(`${box} ${image}`)]);
  };
  window.dormouseArm = (kind, ...answers) => {
    window.dormouseTimed = Promise.all(answers.map(([box, image]) => time(kind, box, image)));
    window.dormouseTimed.catch(() => {});  // who awaits it gets the error
  };

  const usable = () => document.querySelector('#files :is(.files, .empty)') && document.querySelector('#ask textarea');
  const opened = until(document, usable).then(painted);
  window.dormouseOpened = Promise.race([opened, late('the page with its collection')]);
  window.dormouseOpened.catch(() => {});
})();
