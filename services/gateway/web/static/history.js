// The list of spots, grouped by name; comparing photos of one spot; deleting.

import { drawThumb } from "./pictures.js";
import * as spots from "./spots.js";
import { day, fill, percentage, shortDay, textsOf } from "./words.js";

const root = document.getElementById("history");
const texts = textsOf(root);
const list = document.getElementById("list");
const said = document.getElementById("said");
const deleteAll = document.getElementById("delete-all");
const copyOf = (name) => document.getElementById(name).content.firstElementChild.cloneNode(true);
// How many answers are asked for at the same time.
const AT_ONCE = 4;
const probabilityOf = (entry) => percentage(entry.probability) + (entry.aged ? ` · ${texts.aged}` : "");
const ENDED = ["done", "held", "rejected", "failed", "gone"];

show();
refresh();

function show() {
  const groups = new Map();
  for (const entry of spots.all()) groups.set(entry.spot, [...(groups.get(entry.spot) ?? []), entry]);
  const named = [...groups.keys()].filter(Boolean).sort();
  list.replaceChildren(...[...named, ""].filter((name) => groups.has(name)).map((name) => group(name, groups.get(name))));
  list.setAttribute("aria-busy", "false");
  document.getElementById("empty").hidden = groups.size > 0;
  deleteAll.hidden = groups.size === 0;
  spots.suggestNames(document.getElementById("spot-names"));
}

function group(name, entries) {
  const section = copyOf("spot");
  section.querySelector("h2").textContent = name || texts.unnamed;
  section.querySelector(".entries").append(...entries.map(row));
  const button = section.querySelector(".compare");
  button.hidden = entries.length < 2 || !name;
  button.addEventListener("click", () => {
    const comparison = section.querySelector(".comparison");
    comparison.hidden = !comparison.hidden;
    button.setAttribute("aria-expanded", String(!comparison.hidden));
    if (!comparison.hidden && !comparison.childElementCount) compare(comparison, entries);
  });
  return section;
}

function wordsOf(entry) {
  return texts[entry.band] ?? texts[entry.state] ?? texts.working;
}

function row(entry) {
  const item = copyOf("entry");
  item.dataset.id = entry.id;
  item.querySelector("a").href = `/analyses/${entry.id}${entry.anyway ? "?anyway=1" : ""}`;
  drawThumb(item.querySelector("canvas"), entry.thumb);
  tell(item, entry);
  const time = item.querySelector("time");
  time.dateTime = entry.at;
  time.textContent = day(entry.at);
  item.querySelector("input").value = entry.spot;
  item.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    spots.keep({ id: entry.id, spot: item.querySelector("input").value.trim() });
    show();
    said.textContent = texts.saved;
    list.querySelector(`[data-id="${entry.id}"] a`).focus();
  });
  item.querySelector(".entry-delete").addEventListener("click", async () => {
    const done = await remove(entry.id);
    said.textContent = done ? texts.deleted : texts.notDeleted;
    show();
    document.getElementById("main").focus();
  });
  return item;
}

function tell(item, entry) {
  const band = item.querySelector(".entry-band");
  band.textContent = wordsOf(entry);
  if (entry.band) band.classList.add(`entry-${entry.band}`);
  const gone = entry.state === "gone" ? ` · ${texts.gone}` : "";
  item.querySelector(".entry-probability").textContent = entry.band ? probabilityOf(entry) + gone : "";
}

// What was found out about one entry, in its place: whoever is typing, comparing or about to press a button goes on.
function update(news) {
  const item = list.querySelector(`[data-id="${news.id}"]`);
  if (!item || !spots.find(news.id)) return; // deleted meanwhile, here or in another tab
  spots.keep(news);
  tell(item, spots.find(news.id));
  for (const choice of list.querySelectorAll(".comparison select")) {
    if (choice.value === news.id) choice.dispatchEvent(new Event("change"));
  }
}

function compare(place, entries) {
  const byTime = [...entries].sort((a, b) => (a.at < b.at ? -1 : 1));
  const side = (label, first) => {
    const figure = copyOf("comparison-side");
    const choice = figure.querySelector("select");
    const canvas = figure.querySelector("canvas");
    figure.querySelector("label span").textContent = label;
    choice.append(...byTime.map((entry) => new Option(shortDay(entry.at), entry.id)));
    const display = () => {
      const entry = spots.find(choice.value) ?? byTime.find((candidate) => candidate.id === choice.value);
      canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
      canvas.setAttribute("aria-label", fill(texts.photoOf, { date: day(entry.at) }));
      drawThumb(canvas, entry.thumb);
      figure.querySelector("strong").textContent = wordsOf(entry);
      figure.querySelector("figcaption span").textContent = entry.band ? probabilityOf(entry) : "";
    };
    choice.value = first.id;
    choice.addEventListener("change", display);
    display();
    return figure;
  };
  const hint = Object.assign(document.createElement("p"), { className: "hint", textContent: texts.compareHint });
  place.append(side(texts.earlier, byTime.at(-2)), side(texts.later, byTime.at(-1)), hint);
}

async function remove(id) {
  const response = await fetch(`/v1/analyses/${id}`, { method: "DELETE" }).catch(() => null);
  const gone = Boolean(response) && (response.ok || response.status === 404 || response.status === 410);
  if (gone) spots.forget(id);
  return gone;
}

document.getElementById("delete-all-now").addEventListener("click", async () => {
  const outcomes = [];
  for (const entry of spots.all()) outcomes.push(await remove(entry.id));
  said.textContent = outcomes.every(Boolean) ? texts.allDeleted : texts.notDeleted;
  deleteAll.open = false;
  show();
  document.getElementById("main").focus();
});

// Entries whose end is not known yet are looked up, a few at a time.
async function refresh() {
  const open = spots.all().filter((entry) => !ENDED.includes(entry.state));
  const worker = async () => {
    for (let entry = open.pop(); entry; entry = open.pop()) {
      const response = await fetch(`/v1/analyses/${entry.id}`, { headers: { Prefer: "wait=10" } }).catch(() => null);
      if (response?.status === 410 || response?.status === 404) update({ id: entry.id, state: "gone" });
      if (!response?.ok) continue;
      const { state, result, force } = await response.json();
      // The page of a photo that could be better says so before the answer: this list does not run ahead of it.
      if (result?.concerns.length && !force) update({ id: entry.id, state: "held" });
      else update({ id: entry.id, state, ...(result && { band: result.band, probability: result.probability, aged: result.probability_without_age != null }) });
      if (!ENDED.includes(state)) open.unshift(entry);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}
