// Keeps the page of an open training run up to date; without it the page reloads itself.
(function () {
  "use strict";
  const place = document.getElementById("visualsearch-run");
  if (!place) return;
  const pause = 1000 * Number(place.dataset.seconds || 2);
  let failures = 0;

  function isOpen() {
    const shown = place.querySelector("[data-open]");
    return shown !== null && shown.dataset.open === "yes";
  }

  async function refresh() {
    try {
      const answer = await fetch(place.dataset.url, { credentials: "same-origin", redirect: "error" });
      if (!answer.ok) throw new Error(String(answer.status));
      const focused = place.contains(document.activeElement);
      const text = await answer.text();
      // A link that somebody is on with the keyboard is not taken from under them.
      if (!focused) place.innerHTML = text;
      failures = 0;
    } catch {
      failures += 1;
    }
    if (isOpen()) window.setTimeout(refresh, pause * Math.min(15, 1 + failures));
  }

  if (isOpen()) window.setTimeout(refresh, pause);
})();
