// The table: sorted by a column, narrowed by a text, and the case that is chosen.

const rows = [...element("cases").tBodies[0].rows];
const headings = [...element("cases").tHead.rows[0].cells];
const order = {column: -1, descending: false, find: ""};  // -1: as they came

const textOf = (row, column) => row.cells[column].textContent;
const indexOf = row => Number(row.dataset.case);
const shownRows = () => [...element("cases").tBodies[0].rows].filter(row => !row.hidden);

function compare(a, b) {
  const {column, descending} = order, sign = descending ? -1 : 1;
  if (column < 0) return indexOf(a) - indexOf(b);
  const [x, y] = [textOf(a, column), textOf(b, column)];
  if (!headings[column].matches(".number")) return sign * x.localeCompare(y, undefined, {numeric: true});
  if (x === "" || y === "") return (x === "") - (y === "");  // always last
  return sign * (Number(x) - Number(y));
}

function arrangeCases() {
  headings.forEach((heading, column) => {
    if (column === order.column) heading.setAttribute("aria-sort", order.descending ? "descending" : "ascending");
    else heading.removeAttribute("aria-sort");
  });
  const words = order.find.toLowerCase().split(/\s+/);
  for (const row of rows) {
    const text = (textOf(row, 0) + " " + textOf(row, 1)).toLowerCase();
    row.hidden = !words.every(word => text.includes(word));
  }
  element("cases").tBodies[0].append(...rows.sort(compare));
  const count = shownRows().length;
  element("count").textContent = count === rows.length ? "" : `${count} of ${rows.length}`;
}

function sortBy(column) {
  order.descending = order.column === column && !order.descending;
  order.column = column;
  arrangeCases();
  changed();
}

function markRow() {
  for (const row of rows) {
    const isChosen = indexOf(row) === view.index;
    row.classList.toggle("chosen", isChosen);
    row.setAttribute("aria-current", isChosen);
    row.tabIndex = isChosen ? 0 : -1;
    if (isChosen) showInBox(row);
  }
}

// Scrolls the table only; scrollIntoView() would move the page too.
function showInBox(row) {
  const box = row.closest(".cases"), head = headings[0].offsetHeight;
  const top = row.offsetTop - head, bottom = row.offsetTop + row.offsetHeight;
  if (top < box.scrollTop) box.scrollTop = top;
  else if (bottom > box.scrollTop + box.clientHeight) box.scrollTop = bottom - box.clientHeight;
}

// In the order of the table.
function stepCase(step) {
  const shown = shownRows(), place = shown.findIndex(row => indexOf(row) === view.index);
  const next = shown[place < 0 ? 0 : place + step];
  if (next) chooseCase(indexOf(next));
}

// Why a case has no pictures; "" where it has.
function whyNotShown(item) {
  if (item.error !== undefined) return "No result: " + item.error;
  if (!item.grid) return "No pictures: they would have made the page too large.";
  if (!window.DecompressionStream) {
    return "No pictures: they need Chrome or Edge 93, Firefox 113, Safari 16.4, or a later one.";
  }
  return "";
}

function showMessage(text) {
  element("message").textContent = text;
  element("message").hidden = text === "";
}

// `voxel` of the file to go to; null: where the most is labelled.
async function chooseCase(index, voxel = null) {
  const item = data.cases[index], reason = whyNotShown(item);
  if (index !== view.index) view.window = null;
  view.index = index;
  view.scene = null;
  element("case").textContent = item.name;
  element("case").hidden = element("slices").hidden = false;
  element("pictures").setAttribute("aria-busy", true);
  if (reason) element("pictures").hidden = true;
  showMessage(reason || (element("pictures").hidden ? "Unpacking \u2026" : ""));
  markRow();
  changed();
  if (reason) return;
  try {
    const scene = await openScene(index);
    if (view.index !== index) return;  // another was chosen meanwhile
    view.scene = scene;
    await openImage(scene, channelIndex());
    if (view.scene !== scene) return;
    view.at = voxel ? displayedVoxel(scene, voxel) : fullestVoxel(scene);
    showMessage("");
    element("pictures").hidden = false;
    element("pictures").setAttribute("aria-busy", false);
    buildControls(item);
    changed();
  } catch (error) {
    view.scene = null;
    element("pictures").hidden = true;
    showMessage("The page is damaged: the pictures of this case cannot be unpacked (" + error.message + ").");
  }
}

function listenToCases() {
  headings.forEach((heading, column) => {
    heading.tabIndex = 0;
    heading.addEventListener("click", () => sortBy(column));
  });
  element("cases").addEventListener("click", event => {
    const row = event.target.closest("tbody tr");
    if (row) chooseCase(indexOf(row));
  });
  element("cases").addEventListener("keydown", event => {
    const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
    if (event.key === "Enter") event.target.click();
    if (!step || !event.target.matches("tbody tr")) return;
    event.preventDefault();
    event.stopPropagation();
    stepCase(step);
    rows.find(row => indexOf(row) === view.index).focus({preventScroll: true});
  });
  element("find").addEventListener("input", () => {
    order.find = element("find").value;
    arrangeCases();
    changed();
  });
}
