// The three planes: the patient's left is on the right, the front or the head on top; in sagittal
// slices the front is on the left.

const planes = [
  {name: "axial", title: "Axial", column: 0, row: 1, normal: 2, fromAbove: false, marks: "RLAP"},
  {name: "coronal", title: "Coronal", column: 0, row: 2, normal: 1, fromAbove: true, marks: "RLSI"},
  {name: "sagittal", title: "Sagittal", column: 1, row: 2, normal: 0, fromAbove: true, marks: "APSI"},
];
let activePlane = null;  // under the pointer or with the focus: keys go to it

function buildPlane(plane) {
  plane.canvas = make("canvas", {tabindex: 0, role: "img"});
  plane.slider = make("input", {type: "range", min: 0, "aria-label": plane.title + " slice"});
  plane.place = make("span", {class: "place", title: "Slice of the file, from 0"});
  plane.enlarge = button("", {class: "enlarge"}, () => enlarge(plane.name));
  const screen = make("div", {class: "screen"}, plane.canvas);
  ["left", "right", "top", "bottom"].forEach((side, i) => {
    screen.append(make("b", {class: "mark " + side, "aria-hidden": true}, plane.marks[i]));
  });
  plane.figure = make("figure", {"data-plane": plane.name},
    make("figcaption", {}, plane.title + " ", plane.place, plane.enlarge), screen, plane.slider);
  plane.slider.addEventListener("input", () => moveTo(plane.normal, Number(plane.slider.value)));
  plane.canvas.addEventListener("dblclick", () => enlarge(plane.name));
  plane.canvas.addEventListener("wheel", event => turnWheel(plane, event), {passive: false});
  plane.canvas.addEventListener("pointerdown", event => startDrag(plane, event));
  plane.canvas.addEventListener("click", event => point(plane, event));
  for (const enter of ["pointerenter", "focus"]) {
    plane.canvas.addEventListener(enter, () => { activePlane = plane; });
  }
  for (const leave of ["pointerleave", "blur"]) {
    plane.canvas.addEventListener(leave, () => {
      activePlane = planes.find(one => one.canvas === document.activeElement) || null;
    });
  }
  return plane.figure;
}

// The part of the view that lies along world axis `axis`.
function moveTo(axis, voxel) {
  if (!view.scene) return;
  view.at[axis] = clamp(voxel, 0, view.scene.size[axis] - 1);
  changed();
}

// A large plane fills the window.
function enlarge(name) {
  view.enlarged = view.enlarged === name ? "" : name;
  changed();
  if (view.enlarged !== "") requestAnimationFrame(() => element("planes").scrollIntoView());
}

// A notch of a mouse's wheel is a slice, at least; the little that a touchpad tells is summed up.
let turned = 0;
function turnWheel(plane, event) {
  if (event.ctrlKey || !view.scene) return;  // the browser's zoom
  event.preventDefault();
  const notch = event.deltaMode === 0 ? 100 : 1, touch = event.deltaMode === 0 ? 40 : 1;
  turned += event.deltaY / (Math.abs(event.deltaY) >= notch ? notch : touch);
  const slices = Math.trunc(turned);
  if (slices === 0) return;
  turned = 0;
  moveTo(plane.normal, view.at[plane.normal] - slices);
}

function point(plane, event) {
  if (!view.scene) return;
  const box = plane.canvas.getBoundingClientRect(), {size} = view.scene;
  const along = (axis, share) => clamp(Math.floor(share * size[axis]), 0, size[axis] - 1);
  view.at[plane.column] = along(plane.column, (event.clientX - box.left) / box.width);
  const down = along(plane.row, (event.clientY - box.top) / box.height);
  view.at[plane.row] = plane.fromAbove ? size[plane.row] - 1 - down : down;
  changed();
}

// The left button drags the cross, the right one the window: across its width, down its level.
function startDrag(plane, event) {
  if (!view.scene || event.pointerType === "touch" || ![0, 2].includes(event.button)) return;
  const {clientX, clientY} = event, [low, high] = currentWindow();
  const drag = event.button === 0 ? move => point(plane, move) : move => {
    setWindow((low + high) / 2 + (move.clientY - clientY) / 2, high - low + (move.clientX - clientX) / 2);
  };
  if (event.button === 0) drag(event);
  plane.canvas.setPointerCapture(event.pointerId);
  plane.canvas.addEventListener("pointermove", drag);
  plane.canvas.addEventListener("lostpointercapture",
    () => plane.canvas.removeEventListener("pointermove", drag), {once: true});
}

// Some systems open the menu where the button is let go, which may be beside the plane.
let pressedOn = null;
function withholdMenu(event) {
  if (event.type === "pointerdown") pressedOn = event.target;
  else if (planes.some(plane => plane.canvas === pressedOn)) event.preventDefault();
}

const millimetres = axis => view.scene.size[axis] * view.scene.spacing[axis];

// Of a single slice the two planes across it show nothing.
function shownPlanes() {
  const {size} = view.scene;
  const shown = planes.filter(plane => size[plane.column] > 1 && size[plane.row] > 1);
  return shown.length > 0 ? shown : planes;
}

// All planes to one scale beside each other, as high as the window has room below what stands above
// them; or one large, as high as the window, and the others above each other beside it.
function layPlanes() {
  const box = element("planes"), shown = shownPlanes();
  const lead = shown.find(plane => plane.name === view.enlarged);
  const shape = plane => millimetres(plane.row) / millimetres(plane.column);
  const others = shown.filter(plane => plane !== (lead || shown[0]));
  box.classList.toggle("enlarged", lead !== undefined);
  for (const plane of planes) {
    plane.figure.hidden = !shown.includes(plane);
    plane.figure.classList.toggle("lead", plane === (lead || shown[0]));
    plane.canvas.style.aspectRatio = 1 / shape(plane);
    plane.enlarge.textContent = plane === lead ? "\u2921" : "\u2922";
    const what = plane === lead ? "Show all planes alike" : `Enlarge the ${plane.name} plane`;
    plane.enlarge.title = what;
    plane.enlarge.setAttribute("aria-label", what);
  }
  const top = box.getBoundingClientRect().top + window.scrollY;
  const around = 100, between = 62;  // pixels of captions and sliders: with the line below; of two planes
  const room = Math.max(460, window.innerHeight - around - (lead ? 0 : top));
  const sum = (list, value) => list.reduce((total, item) => total + value(item), 0);
  const narrow = lead && others.length > 0 ? shape(lead) / sum(others, shape) * (1 - between / room) : 0;
  const width = plane => millimetres(plane.column), columns = list => list.map(plane => width(plane) + "fr").join(" ");
  const tallest = Math.max(...shown.map(plane => millimetres(plane.row)));
  box.style.setProperty("--room", room + "px");
  box.style.setProperty("--columns", lead ? "1fr" + (narrow > 0 ? ` ${narrow}fr` : "") : columns(shown));
  box.style.setProperty("--shape", lead ? (1 + narrow) / shape(lead) : sum(shown, width) / tallest);
  box.style.setProperty("--pair", columns(others) || "1fr");
}

// The plane's slice of a volume, rows from the top.
function cut(volume, plane) {
  const {size, strides} = view.scene;
  const columns = size[plane.column], rows = size[plane.row];
  const right = strides[plane.column], down = plane.fromAbove ? -strides[plane.row] : strides[plane.row];
  const slice = new Uint8Array(columns * rows);
  let start = view.at[plane.normal] * strides[plane.normal] + (plane.fromAbove ? (1 - rows) * down : 0);
  for (let row = 0, i = 0; row < rows; ++row, start += down) {
    for (let column = 0, voxel = start; column < columns; ++column, voxel += right) slice[i++] = volume[voxel];
  }
  return slice;
}

const scratch = document.createElement("canvas");
// Draws a slice with a colour (ABGR) for each byte over the whole canvas.
function paint(context, slice, columns, rows, colours, smooth) {
  scratch.width = columns;
  scratch.height = rows;
  const inner = scratch.getContext("2d"), pixels = inner.createImageData(columns, rows);
  const words = new Uint32Array(pixels.data.buffer);
  for (let i = 0; i < slice.length; ++i) words[i] = colours[slice[i]];
  inner.putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = smooth;
  context.imageSmoothingQuality = "high";
  context.drawImage(scratch, 0, 0, context.canvas.width, context.canvas.height);
}

// Along the inside of each border between classes (of labels; 0 is none), in the class's colour.
function outline(context, slice, columns, rows, classOf, colourOf, thickness) {
  const across = context.canvas.width / columns, down = context.canvas.height / rows;
  const paths = new Map(), inset = thickness / 2;
  for (let row = 0, i = 0; row < rows; ++row) {
    for (let column = 0; column < columns; ++column, ++i) {
      const own = classOf[slice[i]];
      if (own === 0) continue;
      const differs = (isInside, neighbour) => !isInside || classOf[slice[neighbour]] !== own;
      const left = differs(column > 0, i - 1), right = differs(column < columns - 1, i + 1);
      const top = differs(row > 0, i - columns), bottom = differs(row < rows - 1, i + columns);
      if (!left && !right && !top && !bottom) continue;
      if (!paths.has(own)) paths.set(own, new Path2D());
      const path = paths.get(own);
      const x0 = column * across, x1 = x0 + across, y0 = row * down, y1 = y0 + down;
      const line = (ax, ay, bx, by) => { path.moveTo(ax, ay); path.lineTo(bx, by); };
      if (left) line(x0 + inset, y0, x0 + inset, y1);
      if (right) line(x1 - inset, y0, x1 - inset, y1);
      if (top) line(x0, y0 + inset, x1, y0 + inset);
      if (bottom) line(x0, y1 - inset, x1, y1 - inset);
    }
  }
  context.lineWidth = thickness;
  for (const [own, path] of paths) {
    context.strokeStyle = colourOf(own);
    context.stroke(path);
  }
}

const opaque = 0xff000000;
function greys() {
  const [low, high] = currentWindow();
  return Uint32Array.from({length: 256}, (_, byte) => {
    const grey = clamp(Math.round((byte - low) / (high - low) * 255), 0, 255);
    return opaque | grey << 16 | grey << 8 | grey;
  });
}

const labelOf = new Map(data.labels.map(label => [label.value, label]));
const isShown = label => view.labelsOn && !view.hidden.has(label.value);

function fills() {
  const colours = new Uint32Array(256);
  for (const label of data.labels.filter(isShown)) {
    const [red, green, blue] = label.colour.match(/\d+/g).map(Number);
    colours[label.value] = Math.round(view.opacity * 255) << 24 | blue << 16 | green << 8 | red;
  }
  return colours;
}

function drawLabels(context, plane, columns, rows, pixel) {
  const slice = cut(view.scene.labels, plane);
  if (view.outlined) {
    const classOf = new Uint8Array(256);
    for (const {value} of data.labels.filter(isShown)) classOf[value] = value;
    outline(context, slice, columns, rows, classOf, value => labelOf.get(value).colour, 1.5 * pixel);
  } else {
    paint(context, slice, columns, rows, fills(), false);
  }
  for (const region of data.regions.filter(one => view.labelsOn && view.regions.has(one.name))) {
    const classOf = new Uint8Array(256);
    for (const value of region.labels) classOf[value] = 1;
    outline(context, slice, columns, rows, classOf, () => region.colour, 2 * pixel);
  }
}

function drawCross(context, plane, columns, rows, pixel) {
  const at = view.at, {width, height} = context.canvas;
  const row = plane.fromAbove ? rows - 1 - at[plane.row] : at[plane.row];
  const x = (at[plane.column] + 0.5) / columns * width, y = (row + 0.5) / rows * height, gap = 7 * pixel;
  context.lineWidth = pixel;
  context.strokeStyle = "rgba(120, 200, 255, 0.75)";
  context.beginPath();
  for (const [ax, ay, bx, by] of [[0, y, x - gap, y], [x + gap, y, width, y], [x, 0, x, y - gap], [x, y + gap, x, height]]) {
    context.moveTo(ax, ay);
    context.lineTo(bx, by);
  }
  context.stroke();
}

// The longest round length that a third of the width holds.
function drawScale(context, plane, pixel) {
  const {width, height} = context.canvas, perMm = width / millimetres(plane.column);
  const length = [200, 100, 50, 20, 10, 5, 2, 1].find(mm => mm * perMm < width / 3);
  if (!length) return;
  const right = width - 8 * pixel, left = right - length * perMm, y = height - 9 * pixel;
  context.fillStyle = "rgba(255, 255, 255, 0.8)";
  context.shadowColor = "black";
  context.shadowBlur = 3 * pixel;
  context.fillRect(left, y, right - left, 2 * pixel);
  context.font = 11 * pixel + "px system-ui, sans-serif";
  context.textAlign = "right";
  context.fillText(length + " mm", right, y - 4 * pixel);
  context.shadowBlur = 0;
}

function drawPlane(plane) {
  const {canvas} = plane, {size} = view.scene, pixel = window.devicePixelRatio || 1;
  const columns = size[plane.column], rows = size[plane.row];
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * pixel));
  canvas.height = Math.max(1, Math.round(canvas.clientHeight * pixel));
  const context = canvas.getContext("2d"), image = view.scene.images[channelIndex()];
  context.fillStyle = "black";
  context.fillRect(0, 0, canvas.width, canvas.height);
  if (image) paint(context, cut(image, plane), columns, rows, greys(), true);
  drawLabels(context, plane, columns, rows, pixel);
  if (view.cross) drawCross(context, plane, columns, rows, pixel);
  drawScale(context, plane, pixel);
  const slice = fileVoxel(view.scene, view.at)[view.scene.axis[plane.normal]];
  plane.place.textContent = slice;
  plane.slider.max = size[plane.normal] - 1;
  plane.slider.value = view.at[plane.normal];
  canvas.setAttribute("aria-label", `${plane.title} slice ${slice} of ${view.scene.item.name}`);
}
