// The map of the catalogue: zoom by buttons or wheel, drag to move, a card of the product under the pointer.
(function () {
  "use strict";
  const place = document.getElementById("visualsearch-map");
  if (!place) return;
  const svg = place.querySelector("svg");
  const card = place.querySelector(".visualsearch-map-card");
  const tools = place.querySelector(".visualsearch-map-tools");
  const whole = svg.viewBox.baseVal;
  const all = { x: whole.x, y: whole.y, width: whole.width, height: whole.height };
  let view = { ...all };

  function show() {
    svg.setAttribute("viewBox", `${view.x} ${view.y} ${view.width} ${view.height}`);
    const radius = Math.max(1.2, (4 * view.width) / all.width);
    for (const point of svg.querySelectorAll("circle")) point.setAttribute("r", radius.toFixed(2));
  }

  function zoom(by, x = view.x + view.width / 2, y = view.y + view.height / 2) {
    const width = Math.min(all.width, Math.max(all.width / 40, view.width * by));
    const ratio = width / view.width;
    view = { x: x - (x - view.x) * ratio, y: y - (y - view.y) * ratio, width, height: view.height * ratio };
    show();
  }

  function inPicture(event) {
    const frame = svg.getBoundingClientRect();
    return [
      view.x + ((event.clientX - frame.left) / frame.width) * view.width,
      view.y + ((event.clientY - frame.top) / frame.height) * view.height,
    ];
  }

  tools.hidden = false;
  tools.addEventListener("click", (event) => {
    const how = event.target.dataset.zoom;
    if (how === "all") { view = { ...all }; show(); }
    else if (how) zoom(how === "in" ? 0.7 : 1 / 0.7);
  });
  svg.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls as ever
    event.preventDefault();
    zoom(event.deltaY < 0 ? 0.85 : 1 / 0.85, ...inPicture(event));
  }, { passive: false });
  svg.addEventListener("pointerdown", (event) => {
    const from = { x: event.clientX, y: event.clientY, view: { ...view } };
    const move = (e) => {
      const frame = svg.getBoundingClientRect();
      view = { ...from.view,
        x: from.view.x - ((e.clientX - from.x) / frame.width) * from.view.width,
        y: from.view.y - ((e.clientY - from.y) / frame.height) * from.view.height };
      show();
    };
    svg.addEventListener("pointermove", move);
    const end = () => svg.removeEventListener("pointermove", move);
    for (const name of ["pointerup", "pointerleave"]) svg.addEventListener(name, end, { once: true });
  });
  svg.addEventListener("pointerover", (event) => {
    const point = event.target.closest("circle");
    if (!point) return;
    const image = card.querySelector("img");
    image.hidden = !point.dataset.image;
    if (point.dataset.image) image.src = point.dataset.image;
    const link = card.querySelector("a");
    link.href = point.dataset.url;
    link.textContent = point.querySelector("title").textContent;
    card.hidden = false;
  });
})();
