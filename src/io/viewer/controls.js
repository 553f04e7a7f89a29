// What stands around the planes: the image and its window, labels and regions, keys.

const channelIndex = () => {
  const found = view.scene.item.channels.findIndex(channel => channel.name === view.channel);
  return Math.max(0, found);
};
const channel = () => view.scene.item.channels[channelIndex()];
const currentWindow = () => view.window || (channel() ? channel().window : [0, 255]);

function setWindow(level, width) {
  const half = clamp(width, 2, 510) / 2, middle = clamp(level, 0, 255);
  view.window = [middle - half, middle + half];
  changed();
}

// Of CT, in Hounsfield units.
function addPreset(name, level, width) {
  element("presets").append(button(name, {title: `Level ${level}, width ${width} HU`}, () => {
    const {low, high} = channel(), scale = 255 / (high - low);
    setWindow((level - low) * scale, width * scale);
  }));
}

async function chooseChannel(name) {
  const {scene} = view;
  if (!scene) return;
  if (name !== view.channel) view.window = null;  // of another scale
  view.channel = name;
  await openImage(scene, channelIndex());
  if (scene === view.scene) changed();
}

function stepChannel(step) {
  const {channels} = view.scene.item;
  if (channels.length > 0) chooseChannel(channels[(channelIndex() + step + channels.length) % channels.length].name);
}

const toggle = (set, value) => {
  if (!set.delete(value)) set.add(value);
  view.labelsOn = true;
  changed();
};

const inMl = value => value.toFixed(value > 0 && value < 10 ? 2 : 1) + " mL";
const labelMl = (item, value) => item.ml[value] || 0;
const regionMl = (item, region) => region.labels.reduce((sum, value) => sum + labelMl(item, value), 0);

// Buttons that are pressed where isOn() says so; made for each case, kept up to date by fillControls.
let switches = [];
function addSwitch(box, node, isOn) {
  box.append(node);
  switches.push(() => node.setAttribute("aria-pressed", isOn()));
}

function addChip(box, {name, colour}, ml, isOn, press) {
  const node = button("", {class: "chip"}, press), mark = make("i");
  mark.style.setProperty("--colour", colour);
  node.append(mark, name, make("span", {}, inMl(ml)));
  addSwitch(box, node, isOn);
}

function buildControls(item) {
  const few = 12;  // labels that a case may lack and still show
  switches = [];
  for (const id of ["channels", "labels", "regions"]) element(id).replaceChildren();
  for (const {name} of item.channels) {
    addSwitch(element("channels"), button(name, {}, () => chooseChannel(name)), () => name === channel().name);
  }
  for (const label of data.labels) {
    if (data.labels.length > few && !item.ml[label.value]) continue;
    addChip(element("labels"), label, labelMl(item, label.value), () => isShown(label),
      () => toggle(view.hidden, label.value));
  }
  for (const region of data.regions) {
    addChip(element("regions"), region, regionMl(item, region),
      () => view.labelsOn && view.regions.has(region.name), () => toggle(view.regions, region.name));
  }
  element("channels").parentNode.hidden = item.channels.length === 0;  // nothing to window
  addSwitch(element("styles"), element("filled"), () => !view.outlined);
  addSwitch(element("styles"), element("outlined"), () => view.outlined);
}

// Three digits.
const shortNumber = value => Math.abs(value) >= 100 ? value.toFixed(0) : Number(value.toPrecision(3)).toString();

// "1 mm", or along left, posterior and superior "0.7 \u00d7 0.7 \u00d7 5 mm".
function lengths(spacing) {
  const texts = spacing.map(mm => String(Number(mm.toPrecision(2))));
  return (new Set(texts).size === 1 ? texts[0] : texts.join(" \u00d7 ")) + " mm";
}

function fillReadout() {
  const {scene, at} = view, [l, p, s] = at;
  const voxel = fileVoxel(scene, at), point = worldPoint(scene, voxel);
  const place = l * scene.strides[0] + p * scene.strides[1] + s * scene.strides[2];
  const side = (mm, plus, minus) => Math.abs(mm).toFixed(1) + (mm >= 0 ? plus : minus);
  const parts = [`voxel ${voxel.join(", ")}`,
    [side(point[0], "L", "R"), side(point[1], "P", "A"), side(point[2], "S", "I")].join(" ") + " mm"];
  const image = scene.images[channelIndex()];
  if (image) {
    const {name, low, high} = channel();
    parts.push(`${name} ${shortNumber(low + (high - low) * image[place] / 255)}`);
  }
  const label = labelOf.get(scene.labels[place]);
  parts.push(label ? label.name : "no label");
  const own = scene.spacing.map((mm, axis) => mm / Math.abs(scene.stride[axis]));
  if (scene.stride.some(files => Math.abs(files) > 1)) {
    parts.push(`shown in voxels of ${lengths(scene.spacing)}, the file has ${lengths(own)}`);
  }
  element("readout").textContent = parts.join(" \u00b7 ");
}

function fillWindow() {
  const [low, high] = currentWindow(), shown = channel();
  const value = byte => shown ? shown.low + (shown.high - shown.low) * byte / 255 : byte;
  element("presets").hidden = !shown || shown.low > -500;
  element("level").value = (low + high) / 2;
  element("width").value = high - low;
  element("level-value").textContent = shortNumber(value((low + high) / 2));
  element("width-value").textContent = shortNumber(value(high) - value(low));
}

const keys = {
  n: () => stepCase(1),
  p: () => stepCase(-1),
  o: () => { view.outlined = !view.outlined; },
  h: () => { view.labelsOn = !view.labelsOn; },
  x: () => { view.cross = !view.cross; },
  w: () => { view.window = null; },
  1: () => enlarge("axial"),
  2: () => enlarge("coronal"),
  3: () => enlarge("sagittal"),
  Escape: () => { view.enlarged = ""; },
  "?": () => element("keys").showModal(),
};
const planeKeys = {
  ArrowUp: plane => moveTo(plane.normal, view.at[plane.normal] + 1),
  ArrowDown: plane => moveTo(plane.normal, view.at[plane.normal] - 1),
  PageUp: plane => moveTo(plane.normal, view.at[plane.normal] + 10),
  PageDown: plane => moveTo(plane.normal, view.at[plane.normal] - 10),
  Home: plane => moveTo(plane.normal, 0),
  End: plane => moveTo(plane.normal, Infinity),
  ArrowRight: () => stepChannel(1),
  ArrowLeft: () => stepChannel(-1),
};

function pressKey(event) {
  const isText = event.target === element("find"), isSlider = event.target.matches("[type=range]");
  if (isText || element("keys").open || event.ctrlKey || event.metaKey || event.altKey) return;
  if (Object.hasOwn(keys, event.key)) keys[event.key]();
  else if (activePlane && !isSlider && view.scene && Object.hasOwn(planeKeys, event.key)) {
    planeKeys[event.key](activePlane);
  } else return;
  event.preventDefault();
  changed();
}

function fillControls() {
  for (const update of switches) update();
  element("opacity").value = view.opacity * 100;
  element("opacity").disabled = view.outlined;
  fillWindow();
  fillReadout();
}

function listenToControls() {
  element("previous").addEventListener("click", () => stepCase(-1));
  element("next").addEventListener("click", () => stepCase(1));
  element("help").addEventListener("click", () => element("keys").showModal());
  element("keys").addEventListener("click", () => element("keys").close());
  element("filled").addEventListener("click", () => { view.outlined = false; changed(); });
  element("outlined").addEventListener("click", () => { view.outlined = true; changed(); });
  element("opacity").addEventListener("input", event => {
    view.opacity = event.target.value / 100;
    changed();
  });
  for (const id of ["level", "width"]) {
    element(id).addEventListener("input", () =>
      setWindow(Number(element("level").value), Number(element("width").value)));
  }
  addPreset("Soft tissue", 40, 400);
  addPreset("Lung", -600, 1500);
  addPreset("Bone", 400, 1800);
  element("first-window").addEventListener("click", () => { view.window = null; changed(); });
  document.addEventListener("keydown", pressKey);
}
