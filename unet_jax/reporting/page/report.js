"use strict";
{
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const measures = new Map(data.measures.map((m) => [m.key, m]));
  const SVG = "http://www.w3.org/2000/svg";

  /** Rows as objects, each with its card once that is made. */
  const slices = data.rows.map((values) => Object.fromEntries(data.columns.map((c, i) => [c, values[i]])));
  /** What is shown, in the order shown. */
  let shown = [];

  const make = (tag, words = "", kind = "") => {
    const element = document.createElement(tag);
    element.textContent = words;
    if (kind) element.className = kind;
    return element;
  };

  const draw = (tag, attributes) => {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };

  const print = (value, kind) => {
    if (value === null) return "–";
    if (kind === "count") return value.toLocaleString("en");
    return value.toFixed(kind === "distance" ? 2 : 3);
  };

  const withUnit = (value, kind) => print(value, kind) + (kind === "distance" && value !== null ? ` ${data.unit}` : "");

  const labelled = (m) => m.label + (m.kind === "distance" ? `, ${data.unit}` : "");

  // Parsed when wanted: only what is looked at is decoded.
  const picture = (slice) => JSON.parse($(`p${slice}`).textContent);

  const frame = (p, source, sharp) => {
    const svg = draw("svg", { viewBox: `0 0 ${p.width} ${p.height}`, class: "picture" });
    const image = draw("image", { width: p.width, height: p.height, href: `data:image/png;base64,${source}` });
    if (sharp) image.setAttribute("class", "sharp");
    svg.append(image);
    return svg;
  };

  const outline = (path, kind) => draw("path", { d: path, class: `outline ${kind}` });

  // Cards

  const makeCard = (s) => {
    const button = make("button", "", "card");
    button.type = "button";
    // A black square stands where the picture comes to.
    button.append(draw("svg", { viewBox: "0 0 1 1", class: "picture", "aria-hidden": "true" }));
    const words = make("span", "", "words");
    words.append(make("span", `Slice ${s.slice}`), make("span", `${s.pid} · ${s.tumor}`, "who"));
    const numbers = make("span", "", "numbers");
    for (const [key, label] of [["native_dice", "Dice"], ["native_hd95", "HD95"]]) {
      if (!measures.has(key)) continue;
      const number = make("span", `${label} `);
      number.append(make("b", print(s[key], measures.get(key).kind)));
      numbers.append(number, " ");
    }
    words.append(numbers);
    if (s.missed) words.append(make("span", "Missed", "missed"));
    s.sorted = make("span");
    words.append(s.sorted);
    button.append(words);
    button.addEventListener("click", () => open(s));
    s.button = button;
    s.card = make("li");
    s.card.append(button);
    s.card.slice = s;
  };

  const fill = (s) => {
    if (s.filled) return;
    s.filled = true;
    const p = picture(s.slice);
    const svg = frame(p, p.image);
    svg.setAttribute("aria-hidden", "true");
    svg.append(outline(p.mask, "truth"), outline(p.pred, "pred"));
    s.button.firstChild.replaceWith(svg);
  };

  const watcher = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        watcher.unobserve(entry.target);
        fill(entry.target.slice);
      }
    },
    { rootMargin: "600px" },
  );

  const compare = (key, sign) => (a, b) => {
    const [x, y] = [a[key], b[key]];
    if (x === null || y === null) return (x === null) - (y === null) || a.slice - b.slice; // no value: last
    const order = typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y;
    return sign * order || a.slice - b.slice;
  };

  const arrange = () => {
    const key = $("measure").value;
    const tumor = $("tumor").value;
    const words = $("search").value.trim().toLowerCase();
    const wanted = (s) =>
      (!tumor || s.tumor === tumor) && (!words || String(s.slice) === words || s.pid.toLowerCase().includes(words));
    shown = slices.filter(wanted).sort(compare(key, $("order").value === "lowest" ? 1 : -1));
    const m = measures.get(key);
    const told = !m || key === "native_dice" || key === "native_hd95";
    shown.forEach((s, i) => {
      s.sorted.textContent = told ? "" : `${key.startsWith("network_") ? "Network " : ""}${m.label} ${withUnit(s[key], m.kind)}`;
      s.card.classList.toggle("unprinted", i >= data.printed);
      if (i < data.printed) fill(s); // for paper, which is not scrolled
    });
    $("cards").replaceChildren(...shown.map((s) => s.card));
    $("shown").textContent = `${shown.length} of ${slices.length} slices`;
    const printed = Math.min(shown.length, data.printed);
    const [sorted, order] = [$("measure"), $("order")].map((e) => e.selectedOptions[0].textContent);
    $("printed").textContent = `The first ${printed} of ${slices.length} slices by ${sorted}, ${order}.`;
  };

  // Viewer

  const viewer = $("viewer");
  /** The slice in the viewer, its picture, and its panels. */
  let current = null;
  let seen = null;
  let panels = [];

  const panel = (caption, svg) => {
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `${caption}, slice ${current.slice}`);
    const figure = make("figure");
    figure.append(make("figcaption", caption), svg);
    svg.append(draw("path", { d: "", class: "cross" }));
    return figure;
  };

  const show = (s) => {
    current = s;
    seen = picture(s.slice);
    const { mask, pred } = seen;
    const place = shown.indexOf(s);
    $("viewer-title").textContent = `Slice ${s.slice} · patient ${s.pid} · ${s.tumor}`;
    $("place").textContent = `${place + 1} of ${shown.length}`;
    $("previous").setAttribute("aria-disabled", place === 0);
    $("next").setAttribute("aria-disabled", place === shown.length - 1);

    const [image, truth, prediction] = [0, 1, 2].map(() => frame(seen, seen.image));
    const probability = frame(seen, seen.probs, true);
    truth.append(outline(mask, "truth"));
    prediction.append(outline(mask, "truth"), outline(pred, "pred"));
    probability.append(outline(mask, "truth"));
    panels = [image, truth, prediction, probability];
    $("panels").replaceChildren(
      panel("Image", image),
      panel("Truth", truth),
      panel("Prediction and truth", prediction),
      panel("Probability", probability),
    );
    aim();
    tabulate(s);
  };

  /** The whole slice, or the square around its tumour. */
  const aim = () => {
    const close = $("zoom").getAttribute("aria-pressed") === "true";
    const box = (close && seen.box) || [0, 0, seen.width, seen.height];
    for (const svg of panels) svg.setAttribute("viewBox", box.join(" "));
  };

  /** A part of a table. On a narrow screen the table stands on its side; its roles keep it a table there. */
  const part = (tag, role, words = "") => {
    const element = make(tag, words);
    element.setAttribute("role", role);
    return element;
  };

  const tabulate = (s) => {
    const names = data.measures.filter((m) => m.key.startsWith("native_") && m.group !== "Slice");
    const line = (...cells) => {
      const row = part("tr", "row");
      row.append(...cells);
      return row;
    };
    const [head, body] = [part("thead", "rowgroup"), part("tbody", "rowgroup")];
    head.append(line(part("td", "cell"), ...names.map((m) => part("th", "columnheader", labelled(m)))));
    for (const resolution of ["native", "network"]) {
      const value = (m) => print(s[m.key.replace("native", resolution)], m.kind);
      body.append(line(part("th", "rowheader", resolution), ...names.map((m) => part("td", "cell", value(m)))));
    }
    $("values").replaceChildren(head, body);
    $("values").style.gridTemplateRows = `repeat(${names.length + 1}, auto)`;
    const items = data.measures.filter((m) => m.group === "Slice").map((m) => {
      const item = make("div");
      const value = m.key === "missed" ? (s.missed ? "yes" : "no") : print(s[m.key], m.kind);
      item.append(make("dt", m.label), make("dd", value));
      return item;
    });
    $("counts").replaceChildren(...items);
  };

  const open = (s) => {
    show(s);
    viewer.showModal();
    $("next").focus();
  };

  const step = (by) => {
    const target = shown[shown.indexOf(current) + by];
    if (target) show(target);
  };

  const toggle = (button) => button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");

  const toggleOutlines = () => {
    toggle($("outlines"));
    $("panels").classList.toggle("plain", $("outlines").getAttribute("aria-pressed") !== "true");
  };

  const toggleZoom = () => {
    toggle($("zoom"));
    aim();
  };

  /** The same place in all panels. */
  const point = (event) => {
    const svg = event.target.closest("svg.picture");
    let path = "";
    if (svg && event.type === "pointermove") {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      path = `M${at.x} 0V${seen.height}M0 ${at.y}H${seen.width}`;
    }
    for (const each of panels) each.lastChild.setAttribute("d", each === svg ? "" : path);
  };

  $("panels").addEventListener("pointermove", point);
  $("panels").addEventListener("pointerleave", point);
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("outlines").addEventListener("click", toggleOutlines);
  $("zoom").addEventListener("click", toggleZoom);
  $("close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "Tab") {
      // Round and round: else the focus goes to the window's own bars on its way.
      const buttons = [...viewer.querySelectorAll("button")];
      const [from, to] = event.shiftKey ? [buttons[0], buttons.at(-1)] : [buttons.at(-1), buttons[0]];
      if (document.activeElement !== from) return;
      event.preventDefault();
      to.focus();
      return;
    }
    const act = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), o: toggleOutlines, z: toggleZoom }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  // Back to the card of the slice looked at last, which is the one that was opened unless another was gone to.
  viewer.addEventListener("close", () => {
    current.card.scrollIntoView({ block: "nearest" });
    current.button.focus();
  });

  // Start

  const option = (value, words) => {
    const element = make("option", words);
    element.value = value;
    return element;
  };

  for (const group of new Set(data.measures.map((m) => m.group))) {
    const options = make("optgroup");
    options.label = group;
    options.append(...data.measures.filter((m) => m.group === group).map((m) => option(m.key, labelled(m))));
    if (group === "Slice") options.append(option("slice", "Slice number"), option("pid", "Patient"));
    $("measure").append(options);
  }
  for (const tumor of data.tumors) $("tumor").append(option(tumor, tumor));
  if (data.threshold === null) {
    $("tick").hidden = true;
  } else {
    $("tick").style.left = `${100 * data.threshold}%`;
    $("tick-label").textContent = `threshold ${Number(data.threshold.toFixed(4))}`;
  }
  $("measure").addEventListener("change", () => {
    $("order").value = measures.get($("measure").value)?.worst ?? "lowest"; // the worst first
    arrange();
  });
  for (const id of ["order", "tumor"]) $(id).addEventListener("change", arrange);
  $("search").addEventListener("input", arrange);
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  slices.forEach(makeCard);
  arrange();
  for (const s of slices) watcher.observe(s.card);
}
