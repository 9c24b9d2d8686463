// Draw the mask of a grey PNG by an exported ONNX file, without Python: docs/onnx.md says what goes in and comes out.
//
//   npm install onnxruntime-node pngjs
//   node onnx.mjs model.onnx SIZE THRESHOLD scan.png mask.png
//
// SIZE and THRESHOLD are in the file's metadata, which onnxruntime does not show to JavaScript.

import { readFileSync, writeFileSync } from "node:fs";
import ort from "onnxruntime-node";
import { PNG } from "pngjs";

const [file, sizeText, thresholdText, input, output] = process.argv.slice(2);
const size = Number(sizeText), threshold = Number(thresholdText);

const picture = PNG.sync.read(readFileSync(input), { skipRescale: true }); // 16 bits stay 16 bits
const { width, height } = picture;
const grey = Float32Array.from({ length: width * height }, (_, i) => picture.data[4 * i]); // of red, green, blue, opacity

const sorted = grey.slice().sort();
const limits = Float32Array.of(percentile(sorted, 1), percentile(sorted, 99));

// To a square, in the middle of background, and to the network's size; the probabilities back again.
const side = Math.max(width, height), left = (side - width) >> 1, top = (side - height) >> 1;
const square = new Float32Array(side * side).fill(limits[0]);
for (let y = 0; y < height; y++) {
  square.set(grey.subarray(y * width, (y + 1) * width), (y + top) * side + left);
}
const image = resized(square, side, size);

const session = await ort.InferenceSession.create(file);
const { probs } = await session.run({
  image: new ort.Tensor("float32", image, [1, size, size]),
  limits: new ort.Tensor("float32", limits, [1, 2]),
});
const large = resized(probs.data, size, side);

const mask = new PNG({ width, height });
for (let y = 0; y < height; y++) {
  for (let x = 0; x < width; x++) {
    const tumor = large[(y + top) * side + x + left] >= Math.fround(threshold) ? 255 : 0;
    mask.data.set([tumor, tumor, tumor, 255], 4 * (y * width + x));
  }
}
writeFileSync(output, PNG.sync.write(mask, { colorType: 0, inputColorType: 6 }));

function percentile(sorted, q) {
  const place = ((sorted.length - 1) * q) / 100, below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (place - below);
}

// Resample a square of one side to one of another: the mean over area where it shrinks, bilinear where it grows.
function resized(values, from, to) {
  const pixels = taps(from, to);
  const rows = new Float64Array(to * from), result = new Float32Array(to * to);
  for (let y = 0; y < to; y++) {
    for (const [i, weight] of pixels[y]) {
      for (let x = 0; x < from; x++) rows[y * from + x] += weight * values[i * from + x];
    }
    for (let x = 0; x < to; x++) {
      result[y * to + x] = pixels[x].reduce((sum, [i, weight]) => sum + weight * rows[y * from + i], 0);
    }
  }
  return result;
}

// For each pixel of an axis the pixels before resampling that make it, and their weights.
function taps(from, to) {
  const step = from / to;
  return Array.from({ length: to }, (_, pixel) => {
    if (step > 1) {
      const first = Math.floor(pixel * step), last = Math.min(Math.ceil((pixel + 1) * step), from);
      return Array.from({ length: last - first }, (_, k) => {
        const i = first + k;
        return [i, (Math.min(i + 1, (pixel + 1) * step) - Math.max(i, pixel * step)) / step];
      });
    }
    const place = Math.min(Math.max((pixel + 0.5) * step - 0.5, 0), from - 1), i = Math.floor(place);
    return [[i, 1 - (place - i)], [Math.min(i + 1, from - 1), place - i]];
  });
}
