// Makes the photo form of visual search nicer; everything works without this file.
// A photo that is chosen, taken, pasted or dropped is scaled down in the browser, which also drops its
// EXIF data, shown, and cropped if that is wanted; the search starts when the button is pressed.

const LONGEST_SIDE = 1024;
const TYPES = ["image/jpeg", "image/png", "image/webp"];
const SMALLEST_PART = 0.1; // of a side
const STEP = 0.1;
// The photo waits in this tab alone until the next page: to be shown beside its results, or to be
// sent again after an error.
const KEPT = "visual-search-photo";
const ASKED = "visual-search-asked";

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

async function encoded(source, left, top, width, height, scale) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // transparency becomes white, as in the catalogue
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(source, left, top, width, height, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.9));
  if (!blob) throw new Error("the browser could not encode the photo");
  return new File([blob], "photo.jpg", { type: "image/jpeg" });
}

async function scaledDown(file) {
  const picture = await createImageBitmap(file, { imageOrientation: "from-image" });
  const scale = Math.min(1, LONGEST_SIDE / Math.max(picture.width, picture.height));
  const photo = await encoded(picture, 0, 0, picture.width, picture.height, scale);
  picture.close();
  return photo;
}

async function cutOut(file, { left, top, width, height }) {
  const picture = await createImageBitmap(file);
  const { width: w, height: h } = picture;
  const photo = await encoded(picture, left * w, top * h, width * w, height * h, 1);
  picture.close();
  return photo;
}

// A tab that may store nothing (its settings, a full store) goes on without.
const store = {
  keep(name, value) { try { sessionStorage.setItem(name, value); } catch { /* then not */ } },
  take(name) {
    try {
      const value = sessionStorage.getItem(name);
      sessionStorage.removeItem(name);
      return value;
    } catch { return null; }
  },
};

class VisualSearch extends HTMLElement {
  connectedCallback() {
    this.panel = this.querySelector(".visual-search-photo");
    this.input = this.querySelector("input[type=file]");
    if (!this.input || this.ready) return;
    this.ready = true;
    this.form = this.input.form;
    this.camera = this.querySelector("input[capture]");
    this.preview = this.querySelector(".visual-search-preview");
    this.stage = this.querySelector(".visual-crop");
    this.image = this.stage.querySelector("img");
    this.marked = this.querySelector(".visual-crop-part"); // `part` is a property of every element
    this.status = this.querySelector(".visual-search-status");
    this.querySelector(".visual-search-hint").hidden = false;
    this.box = { left: 0, top: 0, width: 1, height: 1 };
    this.listen();
    this.welcome();
  }

  listen() {
    for (const input of [this.input, this.camera]) {
      input.addEventListener("change", () => this.take(input.files[0]));
    }
    this.querySelector("[data-remove]").addEventListener("click", () => {
      this.clear();
      this.say("removed");
      this.input.focus();
    });
    for (const button of this.querySelectorAll("[data-crop]")) {
      button.addEventListener("click", () => this.adjust(button.dataset.crop));
    }
    this.stage.addEventListener("pointerdown", (event) => this.drag(event));
    this.form.addEventListener("submit", (event) => this.send(event));
    document.addEventListener("submit", (event) => {
      if (event.target.closest(".visual-search-words, .visual-modify, .visual-filters")) store.keep(ASKED, "1");
    });
    // Pasting belongs to the search bar, not to some other field of the shop's page.
    this.addEventListener("paste", (event) => this.takeFrom(event, event.clipboardData));
    this.addEventListener("dragover", (event) => {
      if (![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      this.panel.open = true;
      this.panel.classList.add("is-target");
    });
    this.addEventListener("dragleave", () => this.panel.classList.remove("is-target"));
    this.addEventListener("drop", (event) => {
      this.panel.classList.remove("is-target");
      this.takeFrom(event, event.dataTransfer);
    });
  }

  // Whoever has just searched lands on the results; a photo that was sent is shown beside them.
  welcome() {
    const asked = store.take(ASKED);
    const kept = store.take(KEPT);
    if (this.dataset.photo && kept) this.restore(kept);
    const heading = document.querySelector(".visual-results h2");
    if (asked && heading) heading.focus({ preventScroll: true });
  }

  say(name) {
    this.status.textContent = this.dataset[name] ?? "";
  }

  takeFrom(event, data) {
    const file = [...(data?.files ?? [])][0];
    if (!file) return;
    event.preventDefault();
    this.take(file);
  }

  async take(file) {
    const turn = (this.turn = (this.turn ?? 0) + 1);
    if (!file) return this.clear();
    this.panel.open = true;
    let photo;
    try {
      if (!TYPES.includes(file.type)) throw new TypeError(file.type);
      photo = await scaledDown(file);
    } catch {
      if (turn !== this.turn) return;
      this.clear();
      return this.say("notImage");
    }
    if (turn !== this.turn) return; // another photo was chosen meanwhile
    this.show(photo);
    this.choose(photo);
    this.say("ready");
  }

  show(photo) {
    this.forget();
    this.photo = photo;
    this.address = URL.createObjectURL(photo);
    this.image.src = this.address;
    this.preview.hidden = false;
    this.mark({ left: 0, top: 0, width: 1, height: 1 });
  }

  choose(photo) {
    const files = new DataTransfer();
    files.items.add(photo);
    this.input.files = files.files;
    this.camera.value = "";
  }

  clear() {
    this.forget();
    this.input.value = this.camera.value = "";
    this.preview.hidden = true;
    this.say("");
  }

  forget() {
    if (this.address) URL.revokeObjectURL(this.address);
    this.address = this.photo = undefined;
  }

  // -- the part of the photo that is meant, as fractions of it -----------------------------------

  mark(box) {
    const width = clamp(box.width, SMALLEST_PART, 1);
    const height = clamp(box.height, SMALLEST_PART, 1);
    this.box = { left: clamp(box.left, 0, 1 - width), top: clamp(box.top, 0, 1 - height), width, height };
    // Set by script, which a strict policy allows; a style in the markup it would not.
    for (const [side, value] of Object.entries(this.box)) this.marked.style[side] = `${100 * value}%`;
    this.marked.hidden = this.isWhole;
  }

  get isWhole() {
    return this.box.width > 0.995 && this.box.height > 0.995;
  }

  adjust(how) {
    const { left, top, width, height } = this.box;
    const sized = (by) => ({ left: left - by / 2, top: top - by / 2, width: width + by, height: height + by });
    const to = {
      smaller: () => sized(-STEP),
      larger: () => sized(STEP),
      left: () => ({ ...this.box, left: left - STEP / 2 }),
      right: () => ({ ...this.box, left: left + STEP / 2 }),
      up: () => ({ ...this.box, top: top - STEP / 2 }),
      down: () => ({ ...this.box, top: top + STEP / 2 }),
      whole: () => ({ left: 0, top: 0, width: 1, height: 1 }),
    };
    this.mark(to[how]());
    this.crop();
  }

  drag(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    const frame = this.image.getBoundingClientRect();
    const at = (e) => [clamp((e.clientX - frame.left) / frame.width, 0, 1), clamp((e.clientY - frame.top) / frame.height, 0, 1)];
    const [x, y] = at(event);
    let moved = false;
    const move = (e) => {
      const [x2, y2] = at(e);
      moved ||= Math.abs(x2 - x) > 0.03 || Math.abs(y2 - y) > 0.03; // a tap is no drag
      if (moved) this.mark({ left: Math.min(x, x2), top: Math.min(y, y2), width: Math.abs(x2 - x), height: Math.abs(y2 - y) });
    };
    const end = () => {
      this.stage.removeEventListener("pointermove", move);
      if (moved) this.crop();
    };
    this.stage.setPointerCapture(event.pointerId);
    this.stage.addEventListener("pointermove", move);
    for (const name of ["pointerup", "pointercancel"]) this.stage.addEventListener(name, end, { once: true });
  }

  crop() {
    const photo = this.photo;
    this.say("ready");
    if (!this.isWhole) {
      const percent = (value) => String(Math.round(100 * value));
      this.status.textContent = this.dataset.part
        .replace("{width}", percent(this.box.width)).replace("{height}", percent(this.box.height));
    }
    const turn = (this.cropTurn = (this.cropTurn ?? 0) + 1);
    this.cropping = (this.isWhole ? Promise.resolve(photo) : cutOut(photo, this.box)).then((part) => {
      if (turn === this.cropTurn && photo === this.photo) this.choose(part);
    }, () => this.say("notImage"));
  }

  // -- sending, and what the next page shows of it -----------------------------------------------

  async send(event) {
    if (!this.input.files.length && !this.camera.files.length) {
      event.preventDefault();
      this.say("missing");
      this.input.focus();
      return;
    }
    if (!this.photo || this.kept) return;
    event.preventDefault();
    await this.cropping;
    const reader = new FileReader();
    reader.onloadend = () => {
      if (reader.result) store.keep(KEPT, JSON.stringify({ photo: reader.result, box: this.box }));
      store.keep(ASKED, "1");
      this.kept = true; // the second time it is really sent
      this.form.requestSubmit(event.submitter ?? undefined);
      window.setTimeout(() => { this.kept = false; }, 1000);
    };
    reader.readAsDataURL(this.photo);
  }

  restore(kept) {
    try {
      const { photo, box } = JSON.parse(kept);
      const bytes = Uint8Array.from(atob(photo.split(",")[1]), (character) => character.charCodeAt(0));
      const file = new File([bytes], "photo.jpg", { type: "image/jpeg" });
      this.show(file);
      this.choose(file);
      this.mark(box);
      if (!this.isWhole) this.crop();
      if (this.dataset.photo === "failed") this.panel.open = true;
    } catch {
      this.clear(); // it was not ours
    }
  }
}

// That somebody went on to a hit is told to the shop's own server, without who it was.
function tell(event) {
  const link = event.target.closest?.(".visual-grid a[href]");
  if (!link || event.button > 1 || link.closest(".visual-steer")) return;
  const { query, clicked } = link.closest(".visual-grid").dataset;
  const { product, position } = link.closest("li")?.dataset ?? {};
  if (!query || !clicked || !product) return;
  navigator.sendBeacon?.(clicked, new URLSearchParams({ query_id: query, object_id: product, position }));
}

if (!customElements.get("visual-search")) {
  customElements.define("visual-search", VisualSearch);
  for (const name of ["click", "auxclick"]) document.addEventListener(name, tell);
}
