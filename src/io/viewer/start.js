// After each change of the view everything is drawn anew, once for all changes of a moment.
let isDue = false;
function changed() {
  writeAddress();
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    if (!view.scene || element("pictures").hidden) return;
    layPlanes();
    shownPlanes().forEach(drawPlane);
    fillControls();
  });
}

element("planes").append(...planes.map(buildPlane));
listenToCases();
listenToControls();
for (const type of ["pointerdown", "contextmenu"]) document.addEventListener(type, withholdMenu);
const observer = new ResizeObserver(changed);
observer.observe(element("planes"));
observer.observe(element("cases").parentNode);  // its height can be dragged
window.addEventListener("resize", changed);
window.addEventListener("hashchange", () => { if (location.hash !== written) readAddress(); });
readAddress();
