// Pictures on canvases: no blob: or data: address is ever shown, so the content security policy needs no exception.

// What a phone camera of 2020 gives; more pixels add nothing to 224 × 224 and cost the sender's data.
const MOST_PIXELS = 12_000_000;
const JPEG_QUALITY = 0.92;
// 256 px is enough to compare two photos side by side on a phone, at about 12 kB each.
const THUMB_SIDE = 256;
const THUMB_QUALITY = 0.75;

export const decode = (blob) => createImageBitmap(blob); // upright; rejects what this browser cannot read

export function drawSquare(canvas, image) {
  const width = image.naturalWidth ?? image.width;
  const height = image.naturalHeight ?? image.height;
  const side = Math.min(width, height);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, (width - side) / 2, (height - side) / 2, side, side, 0, 0, canvas.width, canvas.height);
  canvas.hidden = false;
}

export function thumbOf(image) {
  const canvas = Object.assign(document.createElement("canvas"), { width: THUMB_SIDE, height: THUMB_SIDE });
  drawSquare(canvas, image);
  return canvas.toDataURL("image/jpeg", THUMB_QUALITY);
}

export async function drawThumb(canvas, thumb) {
  if (!thumb) return false;
  try {
    const bytes = Uint8Array.from(atob(thumb.split(",")[1]), (character) => character.charCodeAt(0));
    drawSquare(canvas, await decode(new Blob([bytes], { type: "image/jpeg" })));
    return true;
  } catch {
    return false;
  }
}

// The file itself, or a smaller JPEG of it when it has more than 12 megapixels.
export async function fitForSending(file, image) {
  if (!image || image.width * image.height <= MOST_PIXELS) return { blob: file, shrunk: false };
  const factor = Math.sqrt(MOST_PIXELS / (image.width * image.height));
  const canvas = Object.assign(document.createElement("canvas"), {
    width: Math.floor(image.width * factor),
    height: Math.floor(image.height * factor),
  });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", JPEG_QUALITY));
  return blob ? { blob, shrunk: true } : { blob: file, shrunk: false };
}
