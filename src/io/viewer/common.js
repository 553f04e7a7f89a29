const element = id => document.getElementById(id);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
};
const button = (text, attributes, press) => {
  const node = make("button", {type: "button", ...attributes}, text);
  node.addEventListener("click", press);
  return node;
};

// labels, regions and cases, as viewer_report.cpp writes them.
const data = JSON.parse(element("data").textContent);

// What is shown. All of it stands in the page's address, see address.js.
const view = {
  index: -1,            // of data.cases
  scene: null,          // its volumes; null until they are unpacked, and where there are none
  at: [0, 0, 0],        // the voxel under the cross, along left, posterior and superior
  channel: "",          // a name, kept from case to case
  window: null,         // bytes that are black and white; null: the channel's own
  outlined: false,
  opacity: 0.5,
  labelsOn: true,       // all of them, whatever is hidden
  hidden: new Set(),    // values of labels
  regions: new Set(),   // names of the regions shown
  cross: true,
  enlarged: "",         // the name of a plane
};
