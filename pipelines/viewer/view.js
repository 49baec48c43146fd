"use strict";
// The page of `refine view`: two layers of tiles from the same server, the first cut off right of a border and the
// second left of it. Text from files goes through textContent, never into markup.

const at = (id) => document.getElementById(id);
const split = at("split");
const FIRST = ["decision", "reasons", "measured"];
let viewer, page, info, layers = {}, lost = 0;

start().catch((error) => say(`This picture cannot be shown: ${error.message}`));

async function start() {
  const answer = await fetch("info.json");
  if (!answer.ok) throw new Error(await answer.text());
  info = await answer.json();
  at("title").textContent = document.title = info.title;
  at("provenance").replaceChildren(rendered(info.provenance ?? "No provenance.json lies beside this picture."));
  info.pages.forEach((each, index) => at("page").append(new Option(each.name, index)));
  at("pages").hidden = info.pages.length < 2;
  // Where this is, OpenSeadragon adds no style of its own, which the policy of this page forbids.
  const style = element("style");
  style.setAttribute("data-openseadragon-mobile-css", "");
  document.head.append(style);
  viewer = OpenSeadragon({
    element: at("picture"),
    drawer: "canvas",
    // Where tiles overlap by a part of a screen pixel, what shines through would be seen twice.
    subPixelRoundingForTransparency: OpenSeadragon.SUBPIXEL_ROUNDING_OCCURRENCES.ALWAYS,
    showNavigationControl: false,
    animationTime: matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 0.4,
    maxZoomPixelRatio: 16,
    minZoomImageRatio: 0.8,
    visibilityRatio: 0.3,
    imageLoaderLimit: 4,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
  });
  viewer.canvas.setAttribute("role", "application");
  viewer.canvas.setAttribute("aria-label", "Picture. Arrows move it, plus and minus zoom, 0 fits it.");
  viewer.addHandler("viewport-change", show);
  viewer.addHandler("resize", show);
  viewer.addHandler("open", opened);
  viewer.addHandler("open-failed", (event) => say(`This picture cannot be shown: ${event.message}`));
  viewer.addHandler("tile-load-failed", failed);
  connect();
  open(0);
}

function open(index) {
  page = info.pages[index];
  layers = {};
  lost = 0;
  at("stage").classList.toggle("clear", page.alpha);
  at("decision").replaceChildren(decision(page.about));
  at("about").replaceChildren(rendered(page.picture));
  for (const id of ["compare", "curtain", "left", "right"]) at(id).hidden = !page.before;
  at("interpolated").textContent = page.before ? page.before.note : "";
  say(page.before ? "" : info.note);
  viewer.open([tiles("after", page.levels), ...(page.before ? [tiles("before", page.before.levels)] : [])]);
}

// A layer in OpenSeadragon's terms, whose levels count the other way. Both layers have the size of the result.
function tiles(layer, levels) {
  const top = Math.ceil(Math.log2(Math.max(page.width, page.height, 1)));
  const index = info.pages.indexOf(page);
  const alpha = page.alpha;
  return {
    width: page.width,
    height: page.height,
    tileSize: page.tile,
    tileOverlap: 0,
    hasTransparency: () => alpha,
    maxLevel: top,
    minLevel: top - levels + 1,
    getTileUrl: (level, x, y) => `tiles/${index}/${layer}/${top - level}/${y}/${x}`,
  };
}

function opened() {
  layers = { after: viewer.world.getItemAt(0), before: viewer.world.getItemAt(1) };
  // The stage has become smaller or larger with the page's slider.
  const { clientWidth, clientHeight } = viewer.container;
  viewer.viewport.resize(new OpenSeadragon.Point(clientWidth, clientHeight), false);
  viewer.viewport.goHome(true);
  show();
}

function show() {
  if (!layers.after) return;
  const size = viewer.container.clientWidth;
  const zoom = layers.after.viewportToImageZoom(viewer.viewport.getZoom(true)) * devicePixelRatio;
  at("zoom").textContent = `${zoom < 0.1 ? (100 * zoom).toFixed(1) : Math.round(100 * zoom)} %`;
  // Beyond 1:1 pixels are shown as what they are.
  viewer.drawer.setImageSmoothingEnabled(zoom <= 1.01);
  if (!layers.before) return;
  const isReadable = zoom >= page.before.zoom;
  if ((layers.before.getOpacity() > 0) !== isReadable) {
    layers.before.setOpacity(isReadable ? 1 : 0);
    say(isReadable ? "" : "Zoom in to compare: the source is too large to be read as a whole here.");
  }
  const share = isReadable ? split.valueAsNumber / 100 : 0;
  for (const id of ["curtain", "left", "right"]) at(id).hidden = !isReadable;
  at("left").hidden ||= share < 0.12;
  at("right").hidden ||= share > 0.88;
  at("curtain").style.left = `${100 * share}%`;
  const middle = layers.after.viewerElementToImageCoordinates(new OpenSeadragon.Point(share * size, 0)).x;
  const border = Math.min(Math.max(middle, 0), page.width);
  clip(layers.before, 0, border);
  clip(layers.after, border, page.width);
  split.setAttribute("aria-valuetext", `${split.value} per cent before, ${100 - split.value} per cent after`);
}

function clip(layer, left, right) {
  const found = layer.getClip();
  const width = Math.max(right - left, 1e-3);
  if (found && found.x === left && found.width === width) return;
  layer.setClip(new OpenSeadragon.Rect(left, 0, width, page.height));
}

function connect() {
  const zoomBy = (by) => viewer.viewport.zoomBy(by).applyConstraints();
  const fit = () => viewer.viewport.goHome();
  const full = () => {
    if (layers.after) viewer.viewport.zoomTo(layers.after.imageToViewportZoom(1 / devicePixelRatio)).applyConstraints();
  };
  const move = (to) => {
    split.valueAsNumber = to;
    show();
  };
  at("in").addEventListener("click", () => zoomBy(1.5));
  at("out").addEventListener("click", () => zoomBy(1 / 1.5));
  at("fit").addEventListener("click", fit);
  at("full").addEventListener("click", full);
  at("page").addEventListener("change", (event) => open(Number(event.target.value)));
  split.addEventListener("input", show);
  at("compare").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select")) return;
    const value = split.valueAsNumber;
    const keys = { 1: full, "[": () => move(value - 5), "]": () => move(value + 5), b: () => move(following(value)) };
    if (event.key in keys) keys[event.key]();
    else if (!viewer.canvas.contains(event.target)) {
      // With the picture in focus, OpenSeadragon does these itself.
      if (event.key === "0") fit();
      else if (event.key === "+") zoomBy(1.5);
      else if (event.key === "-") zoomBy(1 / 1.5);
    }
  });
  const curtain = at("curtain");
  curtain.addEventListener("pointerdown", (event) => {
    curtain.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  curtain.addEventListener("pointermove", (event) => {
    if (!curtain.hasPointerCapture(event.pointerId)) return;
    const box = at("stage").getBoundingClientRect();
    move((100 * (event.clientX - box.left)) / box.width);
  });
}

function following(value) {
  return value === 50 ? 100 : value === 100 ? 0 : 50;
}

function failed() {
  lost += 1;
  say(`${lost} tile${lost > 1 ? "s" : ""} could not be read; the terminal says why.`);
}

function say(text) {
  at("status").textContent = text;
}

function decision(about) {
  const found = { ...about };
  const box = element("div");
  if ("decision" in found && typeof found.decision === "string") {
    box.append(element("p", found.decision, "lead"));
    delete found.decision;
  }
  const keys = Object.keys(found);
  const ordered = [...FIRST.filter((key) => key in found), ...keys.filter((key) => !FIRST.includes(key))];
  box.append(
    keys.length || box.childElementCount
      ? rendered(Object.fromEntries(ordered.map((key) => [key, found[key]])))
      : element("p", "Nothing is written down of how this picture was made."),
  );
  return box;
}

// Whatever JSON holds, as lists.
function rendered(value) {
  if (Array.isArray(value)) {
    const list = element("ul");
    for (const each of value) list.append(element("li", rendered(each)));
    return list;
  }
  if (value !== null && typeof value === "object") {
    const list = element("dl");
    for (const [key, each] of Object.entries(value)) {
      const style = each !== null && typeof each === "object" ? "deep" : "";
      list.append(element("dt", key, style), element("dd", rendered(each), style));
    }
    return list;
  }
  return document.createTextNode(value === null ? "none" : String(value));
}

function element(name, content = "", style = "") {
  const made = document.createElement(name);
  if (style) made.className = style;
  if (content !== "") made.append(content);
  return made;
}
