// Makes the photo form of visual search nicer; everything works without this file.
// A photo that is chosen, pasted or dropped is scaled down in the browser, which also drops its EXIF
// data, and shown; the search starts when the button is pressed.

const LONGEST_SIDE = 1024;
const TYPES = ["image/jpeg", "image/png", "image/webp"];

async function scaledDown(file) {
  const picture = await createImageBitmap(file, { imageOrientation: "from-image" });
  const scale = Math.min(1, LONGEST_SIDE / Math.max(picture.width, picture.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(picture.width * scale));
  canvas.height = Math.max(1, Math.round(picture.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // transparency becomes white, as in the catalogue
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  picture.close();
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.9));
  if (!blob) throw new Error("the browser could not encode the photo");
  return new File([blob], "photo.jpg", { type: "image/jpeg" });
}

class VisualSearch extends HTMLElement {
  connectedCallback() {
    this.panel = this.querySelector(".visual-search-photo");
    this.input = this.querySelector("input[type=file]");
    if (!this.input || this.ready) return;
    this.ready = true;
    this.preview = this.querySelector(".visual-search-preview");
    this.status = this.querySelector(".visual-search-status");
    this.input.addEventListener("change", () => this.take(this.input.files[0]));
    this.querySelector("[data-remove]").addEventListener("click", () => this.clear());
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
    if (!TYPES.includes(file.type)) return this.refuse();
    let photo;
    try {
      photo = await scaledDown(file);
    } catch {
      if (turn === this.turn) this.refuse();
      return;
    }
    if (turn !== this.turn) return; // another photo was chosen meanwhile
    const files = new DataTransfer();
    files.items.add(photo);
    this.input.files = files.files;
    this.show(photo);
    this.status.textContent = this.status.dataset.ready;
  }

  refuse() {
    this.clear();
    this.status.textContent = this.status.dataset.notImage;
  }

  show(photo) {
    this.forget();
    this.address = URL.createObjectURL(photo);
    this.preview.querySelector("img").src = this.address;
    this.preview.hidden = false;
  }

  clear() {
    this.forget();
    this.input.value = "";
    this.preview.hidden = true;
    this.status.textContent = "";
  }

  forget() {
    if (this.address) URL.revokeObjectURL(this.address);
    this.address = undefined;
  }
}

if (!customElements.get("visual-search")) customElements.define("visual-search", VisualSearch);
