// Choosing, previewing and sending photos. Without this script the form sends itself.

import { decode, drawSquare, fitForSending, thumbOf } from "./pictures.js";
import * as spots from "./spots.js";
import { fill, textsOf } from "./words.js";

const form = document.getElementById("sending");
const texts = textsOf(form);
const limit = Number(form.dataset.limit);
const drop = document.getElementById("drop");
const preview = document.getElementById("preview");
const framing = document.getElementById("framing");
const framingAtFirst = framing.textContent;
const problem = document.getElementById("sending-problem");
const list = document.getElementById("chosen");
const upload = document.getElementById("upload");
const button = form.querySelector("button[type=submit]");
const inputs = [...form.querySelectorAll("input[type=file]")];

// This one photo cannot be used, but the next one may be; any other error stops the sending.
class Unusable extends Error {}
const UNUSABLE = new Set([400, 413, 415, 422]);

let chosen = []; // {file, image (ImageBitmap or null), key (Idempotency-Key)}

async function choose(files) {
  const photos = [...files].filter((file) => file.size);
  if (!photos.length) return;
  tell("");
  chosen = await Promise.all(
    photos.map(async (file) => ({ file, image: await decode(file).catch(() => null), key: newKey() })),
  );
  show();
}

function show() {
  const guide = drop.querySelector(".guide");
  const first = chosen[0];
  preview.hidden = true;
  if (first?.image) drawSquare(preview, first.image);
  guide.toggleAttribute("hidden", Boolean(first?.image));
  framing.textContent = !first ? framingAtFirst : first.image ? texts.preview : texts.noPreview;
  list.hidden = chosen.length < 2;
  list.replaceChildren(...(chosen.length < 2 ? [] : chosen.map(row)));
  if (chosen.length > 1) framing.textContent = fill(texts.several, { count: chosen.length });
}

function row(photo, index) {
  const item = document.createElement("li");
  const name = fill(texts.photo, { number: index + 1 });
  const picture = Object.assign(document.createElement("canvas"), { width: 96, height: 96, ariaHidden: "true" });
  if (photo.image) drawSquare(picture, photo.image);
  const remove = Object.assign(document.createElement("button"), { type: "button", textContent: "×", ariaLabel: fill(texts.remove, { name }) });
  remove.addEventListener("click", () => {
    chosen = chosen.filter((other) => other !== photo);
    show();
    (list.querySelector("button") ?? button).focus();
  });
  item.append(picture, remove);
  return item;
}

function tell(sentence, already = 0) {
  problem.replaceChildren();
  if (already) {
    const link = Object.assign(document.createElement("a"), { href: "/history", textContent: fill(texts.sent, { count: already }) });
    problem.append(link, " ");
  }
  problem.append(sentence);
  problem.hidden = !sentence;
}

function newKey() {
  // randomUUID exists only on https and localhost; a server in a home network has neither.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function send(photo, onProgress) {
  return new Promise((resolve, reject) => {
    fitForSending(photo.file, photo.image).then(({ blob }) => {
      if (blob.size > limit) {
        return reject(new Unusable(fill(texts.tooLarge, { size: Math.floor(limit / 1e6) })));
      }
      const body = new FormData();
      body.append("image", blob, "photo"); // the file's own name stays here
      if (form.elements.force?.checked) body.append("force", "true");
      if (form.elements.age?.value) body.append("age", form.elements.age.value);
      body.append("store", form.elements.do_not_store.checked ? "false" : "true");
      const request = new XMLHttpRequest(); // fetch cannot tell how much has been sent
      request.open("POST", "/v1/analyses");
      request.setRequestHeader("Accept", "application/json");
      // Sent again after a broken connection, the same photo is not analysed twice.
      request.setRequestHeader("Idempotency-Key", photo.key);
      request.responseType = "json";
      request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
      request.onload = () =>
        request.status < 300 && request.response?.id
          ? resolve(request.response)
          : reject(new (UNUSABLE.has(request.status) ? Unusable : Error)(words(request.response, request.status)));
      request.onerror = request.ontimeout = () => reject(new Error(texts.offline));
      request.send(body);
    }, reject);
  });
}

const words = (answer, status) => texts[`code_${answer?.code}`] ?? texts[answer?.type] ?? texts[`status_${status}`] ?? texts.other;

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!chosen.length) {
    tell(texts.none);
    inputs.find((input) => input.offsetParent)?.focus();
    return;
  }
  tell("");
  button.disabled = true;
  const label = button.textContent;
  button.textContent = texts.sending;
  upload.hidden = false;
  const waiting = [...chosen];
  const faults = new Map();
  let sent = 0;
  let id;
  let stopped = "";
  try {
    for (const [place, photo] of waiting.entries()) {
      try {
        const answer = await send(photo, (share) => (upload.value = (place + share) / waiting.length));
        id = answer.id;
        spots.keep({ id, at: answer.created_at ?? new Date().toISOString(), state: answer.state, thumb: photo.image ? thumbOf(photo.image) : "" });
        chosen = chosen.filter((other) => other !== photo);
        sent += 1;
      } catch (error) {
        if (!(error instanceof Unusable)) throw error;
        faults.set(photo, error.message);
      }
    }
  } catch (error) {
    stopped = error.message;
  }
  if (!chosen.length) return location.assign(waiting.length > 1 ? "/history" : `/analyses/${id}`);
  // What was taken is gone from the form; what is left can be removed, or sent once more.
  const numbered = (photo) => (chosen.length > 1 ? `${fill(texts.photo, { number: chosen.indexOf(photo) + 1 })}: ` : "");
  tell([...[...faults].map(([photo, fault]) => numbered(photo) + fault), stopped].filter(Boolean).join(" "), sent);
  show();
  upload.hidden = true;
  button.disabled = false;
  button.textContent = label;
});

for (const input of inputs) {
  input.multiple = !input.hasAttribute("capture");
  // Browsers tell of another file only; the same one once more is a choice as well.
  input.addEventListener("click", () => (input.value = ""));
  input.addEventListener("change", () => choose(input.files));
}

for (const kind of ["dragover", "dragleave", "drop"]) {
  form.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    if (kind === "drop") choose([...event.dataTransfer.files]);
  });
}

document.addEventListener("paste", (event) => choose([...event.clipboardData.files]));

// Coming back with the browser's own button finds the form as it was left; it must be usable again.
addEventListener("pageshow", (event) => event.persisted && location.reload());
