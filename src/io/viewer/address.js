// The view as the page's address, so that it can be linked to:
// #case=NAME&at=x,y,z&channel=t1c&labels=1,3&region=WT&style=outlined&opacity=40&window=low,high&
// plane=axial&sort=seconds&order=descending&find=TEXT. What is as at first is left out.

const numbers = text => text.split(",").filter(part => part !== "").map(Number);

function address() {
  const {scene} = view, parts = new URLSearchParams();
  if (view.index >= 0) parts.set("case", data.cases[view.index].name);
  if (scene) parts.set("at", fileVoxel(scene, view.at).join(","));
  if (view.channel !== "") parts.set("channel", view.channel);
  if (view.hidden.size > 0) {
    parts.set("labels", data.labels.map(label => label.value).filter(value => !view.hidden.has(value)).join(","));
  }
  for (const region of view.regions) parts.append("region", region);
  if (view.outlined) parts.set("style", "outlined");
  if (view.opacity !== 0.5) parts.set("opacity", Math.round(view.opacity * 100));
  if (view.window) parts.set("window", view.window.map(Math.round).join(","));
  if (view.enlarged !== "") parts.set("plane", view.enlarged);
  if (order.column >= 0) parts.set("sort", headings[order.column].textContent);
  if (order.descending) parts.set("order", "descending");
  if (order.find !== "") parts.set("find", order.find);
  return "#" + parts.toString().replaceAll("%2C", ",");
}

let writing = 0, written = location.hash;
function writeAddress() {
  clearTimeout(writing);  // browsers bear few changes a second
  writing = setTimeout(() => {
    written = address();
    history.replaceState(null, "", written);
  }, 200);
}

function readAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const get = key => parts.get(key) || "";
  view.channel = get("channel");
  view.hidden = new Set(parts.has("labels")
    ? data.labels.map(label => label.value).filter(value => !numbers(get("labels")).includes(value)) : []);
  view.regions = new Set(parts.getAll("region"));
  view.outlined = get("style") === "outlined";
  view.opacity = parts.has("opacity") ? clamp(Number(get("opacity")) / 100 || 0, 0, 1) : 0.5;
  view.enlarged = planes.some(plane => plane.name === get("plane")) ? get("plane") : "";
  order.column = headings.findIndex(heading => heading.textContent === get("sort"));
  order.descending = get("order") === "descending";
  element("find").value = order.find = get("find");
  arrangeCases();
  const at = numbers(get("at")), bytes = numbers(get("window"));
  const isVoxel = at.length === 3 && at.every(Number.isFinite);
  const named = data.cases.findIndex(item => item.name === get("case"));
  const first = named >= 0 ? named : data.cases.findIndex(item => item.grid);
  const index = first >= 0 ? first : data.cases.length - 1;
  view.index = index;
  view.window = bytes.length === 2 && bytes[0] < bytes[1] ? bytes : null;
  if (index >= 0) chooseCase(index, named >= 0 && isVoxel ? at : null);
}
