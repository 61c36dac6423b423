// The list of spots: kept in this browser only. One entry for each analysis:
// {id, at (ISO time), thumb (JPEG data URL or ""), spot (name), state, anyway (was looked at in spite of concerns), band,
// probability, aged (the age counts in it)}

const KEY = "lesionlens.spots";

export function all() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(kept) ? kept.filter((entry) => entry.id && entry.at) : [];
  } catch {
    return []; // storage is forbidden or damaged: the page works without a list
  }
}

export const find = (id) => all().find((entry) => entry.id === id);

export function keep(entry) {
  const others = all().filter((other) => other.id !== entry.id);
  const merged = { spot: "", thumb: "", ...find(entry.id), ...entry };
  write([merged, ...others].sort((a, b) => (a.at < b.at ? 1 : -1)));
}

export const forget = (id) => write(all().filter((entry) => entry.id !== id));

export const names = () => [...new Set(all().map((entry) => entry.spot).filter(Boolean))].sort();

function write(entries) {
  // A full storage gives up the oldest pictures first; the entries themselves stay.
  for (let withPictures = entries.length; withPictures >= 0; withPictures = Math.floor(withPictures / 2) || withPictures - 1) {
    const slim = entries.map((entry, i) => (i < withPictures ? entry : { ...entry, thumb: "" }));
    try {
      localStorage.setItem(KEY, JSON.stringify(slim));
      return;
    } catch {
      continue;
    }
  }
}

export function suggestNames(list) {
  list.replaceChildren(...names().map((name) => Object.assign(document.createElement("option"), { value: name })));
}
