// Volumes of cases: bytes, [superior, posterior, left] with left fastest.

const pageIsRead = new Promise(done => {
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", done);
  else done();
});

// Base64 of zlib.
async function unpack(id) {
  await pageIsRead;
  const text = atob(element(id).textContent), packed = new Uint8Array(text.length);
  for (let i = 0; i < text.length; ++i) packed[i] = text.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The inverse of predict() in viewer_volumes.cpp, in place.
function restore(voxels, width, height) {
  for (let row = 0; row < voxels.length; row += width) {
    const isFirst = row % (width * height) === 0;
    let left = 0, corner = 0;
    for (let i = row; i < row + width; ++i) {
      const above = isFirst ? 0 : voxels[i - width];
      const low = Math.min(left, above), high = Math.max(left, above);
      const expected = i === row ? above : clamp(left + above - corner, low, high);
      left = voxels[i] = voxels[i] + expected & 255;
      corner = above;
    }
  }
  return voxels;
}

// The last few cases stay unpacked.
const scenes = new Map();
async function openScene(index) {
  const kept = 3, item = data.cases[index];
  const [width, height] = item.grid.size;
  const scene = scenes.get(index) ||
    {...item.grid, index, item, strides: [1, width, width * height], labels: null, images: []};
  scenes.delete(index);
  scenes.set(index, scene);
  if (scenes.size > kept) scenes.delete(scenes.keys().next().value);
  scene.labels ??= await unpack(`volume-${index}-0`);
  return scene;
}

// Sees to it that scene.images[channel] is there.
async function openImage(scene, channel) {
  if (scene.images[channel] || !scene.item.channels[channel]) return;
  const [width, height] = scene.size;
  scene.images[channel] = restore(await unpack(`volume-${scene.index}-${channel + 1}`), width, height);
}

// The voxel (x, y, z) of the file, from 0, that stands in the middle of a displayed one; and back.
function fileVoxel(scene, at) {
  const voxel = [0, 0, 0];
  scene.axis.forEach((axis, i) => { voxel[axis] = Math.round(scene.start[i] + scene.stride[i] * at[i]); });
  return voxel;
}
function displayedVoxel(scene, voxel) {
  return scene.axis.map((axis, i) =>
    clamp(Math.round((voxel[axis] - scene.start[i]) / scene.stride[i]), 0, scene.size[i] - 1));
}

// In mm to the left, back and head.
function worldPoint(scene, [x, y, z]) {
  const w = scene.world;
  return [0, 4, 8].map(row => w[row] * x + w[row + 1] * y + w[row + 2] * z + w[row + 3]);
}

// Where the most is labelled, along each axis; the middle of what is not.
function fullestVoxel({size, labels}) {
  const counts = size.map(length => new Uint32Array(length));
  let i = 0;
  for (let s = 0; s < size[2]; ++s) {
    for (let p = 0; p < size[1]; ++p) {
      for (let l = 0; l < size[0]; ++l) {
        if (labels[i++] === 0) continue;
        ++counts[0][l];
        ++counts[1][p];
        ++counts[2][s];
      }
    }
  }
  return counts.map((slices, axis) => {
    const most = slices.reduce((a, b) => Math.max(a, b), 0);
    return most > 0 ? slices.indexOf(most) : size[axis] >> 1;
  });
}
