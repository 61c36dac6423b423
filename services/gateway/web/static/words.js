// Sentences come from the page, in its language; numbers and dates are written as that language does.

// The reader's own region where it fits: en-GB writes dates unlike en-US.
const page = document.documentElement.lang;
const language = navigator.languages.find((wish) => wish.split("-")[0] === page) ?? page;

export const textsOf = (element) => JSON.parse(element.dataset.texts);

export const fill = (sentence, values) => sentence.replace(/\{(\w+)\}/g, (_, name) => values[name]);

export function percentage(share) {
  const write = (value) => new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 0 }).format(value);
  if (share > 0 && share < 0.01) return "< " + write(0.01);
  if (share > 0.99 && share < 1) return "> " + write(0.99);
  return write(share);
}

const written = (options) => {
  const format = new Intl.DateTimeFormat(language, options);
  return (moment) => format.format(new Date(moment));
};

export const day = written({ dateStyle: "medium", timeStyle: "short" });
// As short as possible: two of them stand side by side on a phone.
export const shortDay = written({ day: "2-digit", month: "2-digit", year: "2-digit", hour: "2-digit", minute: "2-digit" });
