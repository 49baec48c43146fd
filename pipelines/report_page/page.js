"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const PAIRS = 12; // shown at once
const ROWS = 50; // of a page of the list
const STYLES = { done: "good", failed: "bad", quarantined: "bad", flagged: "warn" };

function element(name, options = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(options)) {
    if (value === undefined || value === false || value === null) continue;
    if (key === "class") made.className = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== "" && child !== null && child !== undefined));
  return made;
}

const number = (value) => value.toLocaleString("en");

// A section of the page; its place in the contents.
const contents = element("nav", { "aria-label": "Contents" });

function section(id, title, told, ...children) {
  const made = element("section", { id, "aria-labelledby": `${id}-title` });
  made.append(element("h2", { id: `${id}-title` }, title));
  if (told) made.append(element("p", { class: "quiet" }, told));
  made.append(...children.filter(Boolean));
  contents.append(element("a", { href: `#${id}` }, title));
  document.getElementById("main").append(made);
  return made;
}

function figures(cards) {
  const list = element("dl", { class: "figures" });
  for (const card of cards) {
    const value = element("dd", { class: card.style }, card.value);
    if (card.note) value.append(element("small", {}, card.note));
    list.append(element("div", {}, element("dt", {}, card.label), value));
  }
  return list;
}

function shares(entries) {
  const list = element("ul", { class: "shares" });
  const most = Math.max(...entries.map((entry) => entry.count));
  for (const entry of entries) {
    const meter = element("meter", { min: 0, max: most, value: entry.count, "aria-hidden": "true" });
    const what = element("span", { class: "what" }, entry.what);
    list.append(element("li", {}, what, meter, element("span", { class: "count" }, number(entry.count))));
  }
  return list;
}

// Where a name leads, below a folder; names that are no text bring their own address.
function address(folder, name) {
  return folder === null ? null : folder + name.split("/").map(encodeURIComponent).join("/");
}

function linked(text, href) {
  return href ? element("a", { href }, text) : document.createTextNode(text);
}

function groups(entries, whole) {
  const box = element("div");
  entries.forEach((entry) => {
    const open = entries.length <= 3 && entry.paths.length <= 10;
    const summary = element("summary", {}, element("span", { class: `tag ${STYLES[entry.state] || ""}` }, entry.tag));
    summary.append(`${entry.what} `, element("b", {}, `(${number(entry.count)})`));
    const list = element("ul");
    for (const path of entry.paths) list.append(element("li", {}, path));
    const group = element("details", { class: "group", open }, summary, list);
    if (whole && entry.count > 1) {
      const button = element("button", { type: "button" }, `List all ${number(entry.count)} below`);
      button.addEventListener("click", () => whole(entry.group));
      group.append(button);
    } else if (entry.count > entry.paths.length) {
      list.append(element("li", {}, `and ${number(entry.count - entry.paths.length)} more`));
    }
    box.append(group);
  });
  return box;
}

function pair(entry, words) {
  const figure = element("figure");
  const stage = element("div", { class: "stage" });
  const [left, right] = words;
  const after = element("img", { class: "after", alt: `${right}: ${entry.name}`, decoding: "async", loading: "lazy" });
  const before = element("img", { class: "before", alt: `${left}: ${entry.name}`, decoding: "async", loading: "lazy" });
  // The chequers lie under the picture only: what is beside it is not a part of it that is transparent.
  const ground = element("span", { class: "ground", hidden: true });
  after.addEventListener("load", () => {
    ground.style.setProperty("--ratio", after.naturalWidth / after.naturalHeight);
    ground.style.setProperty("--px", after.naturalWidth);
    ground.hidden = false;
  });
  const split = element("input", { type: "range", min: 0, max: 100, value: 50, step: 1 });
  split.setAttribute("aria-label", `${left} and ${right}: ${entry.name}`);
  const badges = [element("span", { class: "badge left" }, left), element("span", { class: "badge right" }, right)];
  const move = () => {
    stage.style.setProperty("--at", `${split.value}%`);
    split.setAttribute("aria-valuetext", `${split.value} per cent ${left}, ${100 - split.value} per cent ${right}`);
    badges[0].hidden = split.valueAsNumber < 15;
    badges[1].hidden = split.valueAsNumber > 85;
  };
  split.addEventListener("input", move);
  if (entry.whole.before === null) {
    stage.style.setProperty("--at", "0%");
    stage.append(ground, after, badges[1]);
  } else {
    stage.append(ground, after, before, element("span", { class: "line" }), ...badges, split);
    move();
  }
  figure.view = (kind) => {
    const shown = (kind === "detail" && entry.detail) || entry.whole;
    // Pixel for pixel: pictures made for this page. Files that are only linked have sizes of their own.
    stage.classList.toggle("detail", Boolean(shown.width) && (shown === entry.detail || !entry.detail));
    if (shown.before !== null) before.src = shown.before;
    after.src = shown.after;
  };
  const caption = element("figcaption", {}, element("b", {}, entry.name));
  const links = element("p");
  if (entry.links[0]) links.append(element("a", { href: entry.links[0] }, left), " · ");
  if (entry.links[1]) links.append(element("a", { href: entry.links[1] }, right), " · ");
  links.append(entry.size);
  caption.append(links);
  for (const line of entry.lines) caption.append(element("p", { class: line.style }, line.text));
  figure.append(stage, caption);
  return figure;
}

const figuresShown = [];
let view = "detail";

function pairs(entries, words) {
  const box = element("div", { class: "pairs" });
  const more = element("button", { type: "button" });
  let count = 0;
  const grow = () => {
    for (const entry of entries.slice(count, count + PAIRS)) {
      const figure = pair(entry, words);
      figuresShown.push(figure);
      figure.view(view);
      box.append(figure);
    }
    count = Math.min(count + PAIRS, entries.length);
    more.hidden = count === entries.length;
    more.textContent = `Show more (${number(entries.length - count)} left)`;
  };
  more.addEventListener("click", grow);
  grow();
  return element("div", {}, box, element("div", { class: "bar" }, more));
}

function views() {
  const bar = element("div", { class: "bar", role: "group", "aria-label": "What of the pictures is shown" });
  for (const [kind, text] of [["detail", "A part, pixel for pixel"], ["whole", "The whole picture"]]) {
    const button = element("button", { type: "button", "aria-pressed": String(kind === view) }, text);
    button.addEventListener("click", () => {
      view = kind;
      for (const other of document.querySelectorAll("[data-view]")) {
        other.setAttribute("aria-pressed", String(other.dataset.view === kind));
      }
      for (const figure of figuresShown) figure.view(kind);
    });
    button.dataset.view = kind;
    bar.append(button);
  }
  return bar;
}

// The list: rows come packed, and are unpacked when the page has been drawn.
async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function list(items) {
  const search = element("input", { type: "search", placeholder: "Name or reason", "aria-label": "Search names and reasons" });
  const state = element("select", { "aria-label": "State" }, element("option", { value: "" }, "All states"));
  items.states.forEach((name, index) => state.append(element("option", { value: index }, name)));
  const decision = element("select", { "aria-label": "Decision" }, element("option", { value: "" }, "All decisions"));
  items.decisions.forEach((name, index) => {
    if (name) decision.append(element("option", { value: index }, name));
  });
  const body = element("tbody");
  const heads = ["Image", "State", "Decision or reason", "Result"];
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...heads.map((text) => element("th", { scope: "col" }, text)))), body);
  const back = element("button", { type: "button" }, "Back");
  const on = element("button", { type: "button" }, "On");
  const place = element("output", { "aria-live": "polite" });
  const all = element("button", { type: "button", hidden: true });
  let rows = [];
  let reasons = [];
  let found = [];
  let at = 0;
  let group = null;
  const draw = () => {
    body.replaceChildren(...found.slice(at, at + ROWS).map((row) => line(row, items, reasons[row[3]].text)));
    const last = Math.min(at + ROWS, found.length);
    place.textContent = found.length ? `${number(at + 1)} to ${number(last)} of ${number(found.length)}` : "nothing found";
    back.disabled = at === 0;
    on.disabled = last >= found.length;
  };
  const filter = () => {
    const wanted = search.value.toLowerCase();
    found = rows.filter((row) => {
      const reason = reasons[row[3]];
      return (
        (state.value === "" || (state.value === "flag" ? reason.flag : row[1] === Number(state.value))) &&
        (decision.value === "" || row[2] === Number(decision.value)) &&
        (group === null || reason.group === group) &&
        (!wanted || row[0].toLowerCase().includes(wanted) || reason.text.toLowerCase().includes(wanted))
      );
    });
    at = 0;
    draw();
  };
  const only = (index) => {
    group = index;
    all.hidden = index === null;
    if (index !== null) all.textContent = "One reason only: show all again";
    filter();
  };
  search.addEventListener("input", filter);
  state.addEventListener("change", filter);
  decision.addEventListener("change", filter);
  all.addEventListener("click", () => only(null));
  back.addEventListener("click", () => ((at -= ROWS), draw()));
  on.addEventListener("click", () => ((at += ROWS), draw()));
  const box = element("div", {}, element("div", { class: "bar" }, search, state, decision, all), table, element("div", { class: "bar" }, back, on, place));
  box.ready = unpacked(items.packed).then((list) => {
    ({ rows, reasons } = list);
    if (reasons.some((reason) => reason.flag)) state.append(element("option", { value: "flag" }, "flagged"));
    filter();
  });
  box.only = (index) => {
    search.value = state.value = decision.value = "";
    only(index);
    box.scrollIntoView();
    all.focus();
  };
  return box;
}

function line(row, items, told) {
  const [name, state, decision, , px, nbytes, output, href] = row;
  const word = items.states[state];
  const leads = px ? href || address(data.links.target, output || name) : null;
  const size = px ? `${(px / 1e6).toFixed(px < 1e7 ? 2 : 1)} Mpx, ${weight(nbytes)}` : "";
  const why = [items.decisions[decision], told].filter(Boolean).join(": ");
  return element(
    "tr", {},
    element("td", {}, linked(name, leads), output ? element("small", {}, ` as ${output}`) : ""),
    element("td", {}, element("span", { class: STYLES[word] || "" }, word)),
    element("td", {}, why),
    element("td", { class: "number" }, size),
  );
}

const weight = (nbytes) => (nbytes < 1e6 ? `${Math.max(1, Math.round(nbytes / 1e3))} kB` : `${(nbytes / 1e6).toFixed(1)} MB`);

// Whatever JSON holds, as lists.
function rendered(value) {
  if (Array.isArray(value)) return document.createTextNode(value.join(", ") || "none");
  if (value === null || typeof value !== "object") return document.createTextNode(value === null ? "none" : String(value));
  const made = element("dl", { class: "facts" });
  for (const [key, each] of Object.entries(value)) {
    const deep = each !== null && typeof each === "object" && !Array.isArray(each) ? "deep" : undefined;
    made.append(element("dt", { class: deep }, key), element("dd", { class: deep }, rendered(each)));
  }
  return made;
}

function drawn() {
  const main = document.getElementById("main");
  main.append(contents);
  for (const part of data.figures) section(part.id, part.title, part.told, figures(part.cards));
  if (data.decisions.length) section("decisions", "Decisions", "What was found to be needed, and how often.", shares(data.decisions));
  const items = data.items ? list(data.items) : null;
  if (data.failures.length) {
    section("failures", "Without a result", data.words.failures, groups(data.failures, items ? items.only : null));
  }
  for (const set of data.pairs) {
    section(set.id, set.title, set.told, views(), pairs(set.entries, data.words.sides));
  }
  if (data.notes.length) {
    section("notes", "Notes", "What was changed or left out on the way from the source's file to the result's.", groups(data.notes, null));
  }
  if (items) section("items", "All images", data.items.told, items);
  if (data.made) {
    const parts = Object.entries(data.made).map(([name, value]) =>
      element("details", { class: "group" }, element("summary", {}, name), rendered(value)),
    );
    section("made", "How this was made", "", ...parts);
  }
  return items ? items.ready : null;
}

const drawnAll = Promise.resolve(drawn()); // settled when the list is there, too
