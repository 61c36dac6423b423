// One analysis: follow it until it ends, then make the answer handy. The server renders every state; this only swaps
// what it rendered, so that both ways of using the page show the same.

import { drawThumb, thumbOf } from "./pictures.js";
import * as spots from "./spots.js";
import { day, fill, textsOf } from "./words.js";

// Seconds the server is asked to hold a poll; proxies commonly give up after 30.
const WAIT_S = 10;
const ENDED = new Set(["done", "held", "rejected", "failed"]);

const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
const page = () => document.getElementById("analysis");

start();

function start() {
  const root = page();
  const { id, state } = root.dataset;
  const texts = textsOf(root);
  remember(root);
  for (const time of root.querySelectorAll("time")) time.textContent = day(time.dateTime);
  drawThumb(document.getElementById("thumb") ?? document.createElement("canvas"), spots.find(id)?.thumb);
  forgetWhenDeleted(root);
  if (!ENDED.has(state)) follow(id, texts);
  if (state === "done") {
    showPhoto(id);
    slideAttention();
    nameSpot(id, texts);
  }
}

// Only what was sent from this browser enters its list by itself, also in place of a photo that was refused: a link
// opened for somebody else does not.
function remember(root) {
  const { id, instead } = root.dataset;
  const refused = spots.find(id) ? undefined : spots.find(instead);
  if (refused) spots.keep({ ...entryOf(root), spot: refused.spot, thumb: refused.thumb });
  else if (spots.find(id)) spots.keep(entryOf(root));
}

function entryOf(root) {
  const { id, state, created, band, probability, aged, anyway } = root.dataset;
  const answer = band && { band, probability: Number(probability), aged: Boolean(aged) };
  return { id, at: created, state, ...(anyway && { anyway: true }), ...answer };
}

async function follow(id, texts) {
  const live = document.getElementById("live");
  let tag; // of the last answer: with it the server waits for another one
  let failures = 0;
  for (;;) {
    try {
      const response = await fetch(`/v1/analyses/${id}`, {
        cache: "no-store",
        headers: { Accept: "application/json", ...(tag && { Prefer: `wait=${WAIT_S}`, "If-None-Match": tag }) },
      });
      if (response.status === 410 || response.status === 404) return location.reload();
      if (response.status !== 304) {
        if (!response.ok) throw new Error(String(response.status));
        const answer = await response.json();
        if (ENDED.has(answer.state)) return await swap();
        showStage(answer, texts);
        tag = response.headers.get("ETag"); // not before it was shown: of the same answer there is no second one
      }
      if (failures) live.textContent = "";
      failures = 0;
      await pause(0.15);
    } catch {
      failures += 1;
      live.textContent = texts.offline;
      await pause(Math.min(8, 2 ** failures / 2));
    }
  }
}

function showStage({ state, waiting_ahead: ahead }, texts) {
  let past = true;
  for (const item of document.querySelectorAll("#stages li")) {
    const now = item.dataset.stage === state;
    if (now) past = false;
    item.className = now ? "now" : past ? "past" : "ahead";
    item.toggleAttribute("aria-current", now);
    if (now) {
      item.setAttribute("aria-current", "step");
      document.getElementById("live").textContent = "";
    }
  }
  document.getElementById("position").textContent = ahead ? fill(texts.ahead, { count: ahead }) : "";
}

async function swap() {
  const response = await fetch(location.pathname, { headers: { Accept: "text/html" }, cache: "no-store" });
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  if (!fresh.getElementById("analysis")) return location.reload();
  document.title = fresh.title;
  page().replaceWith(document.adoptNode(fresh.getElementById("analysis")));
  start();
  page().querySelector("h1").focus({ preventScroll: true });
  scrollTo(0, 0);
}

// The photo as stored; where this browser cannot read it, or it is gone, the small picture kept here.
async function showPhoto(id) {
  const photo = document.getElementById("photo");
  const here = document.getElementById("photo-here");
  const kept = spots.find(id)?.thumb;
  const useKept = async () => {
    if (await drawThumb(here, kept)) photo?.remove();
    else if (photo) photo.hidden = true;
  };
  if (!photo) return useKept();
  try {
    await photo.decode();
    if (!kept && spots.find(id)) spots.keep({ id, thumb: thumbOf(photo) });
  } catch {
    await useKept();
  }
}

function slideAttention() {
  const slider = document.getElementById("attention-strength");
  const map = document.getElementById("attention");
  slider.hidden = false;
  slider.addEventListener("input", () => (map.style.opacity = slider.value / 100));
}

function nameSpot(id, texts) {
  const form = document.getElementById("naming");
  const input = document.getElementById("spot-name");
  form.hidden = false;
  input.value = spots.find(id)?.spot ?? "";
  spots.suggestNames(document.getElementById("spot-names"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const photo = document.getElementById("photo");
    const thumb = spots.find(id)?.thumb || (photo?.naturalWidth ? thumbOf(photo) : "");
    spots.keep({ ...entryOf(page()), thumb, spot: input.value.trim() });
    document.getElementById("named").textContent = texts.saved;
  });
}

function forgetWhenDeleted(root) {
  root.querySelector("form[data-delete]")?.addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = event.target;
    const response = await fetch(`/v1/analyses/${form.dataset.delete}`, { method: "DELETE" }).catch(() => null);
    if (response?.ok || response?.status === 410 || response?.status === 404) {
      spots.forget(form.dataset.delete);
      location.assign("/deleted");
    } else {
      form.submit(); // the plain way tells what is wrong
    }
  });
}
