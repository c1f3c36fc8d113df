// What every page does besides the theme's own scripts. Plain script: it also runs where a page is opened as a file.
(() => {
  "use strict";

  // The contents of a phone cover the page: a followed entry closes them.
  for (const dialog of document.querySelectorAll("dialog"))
    dialog.addEventListener("click", (event) => { if (event.target.closest("a[href*='#']")) dialog.close(); });

  // The contents show which section is being read.
  const entries = [...document.querySelectorAll("#pst-page-toc-nav a[href^='#']")].map((link) => (
    {link, section: document.getElementById(decodeURIComponent(link.hash.slice(1)))})).filter((entry) => entry.section);
  let waiting = false;
  const show = () => {
    waiting = false;
    const last = innerHeight + scrollY >= document.documentElement.scrollHeight - 2 && scrollY > 0;
    const read = entries.findLast(({section}) => section.getBoundingClientRect().top < (last ? innerHeight : 130));
    for (const item of document.querySelectorAll("#pst-page-toc-nav .active")) item.classList.remove("active");
    read?.link.classList.add("active");
    for (let item = read?.link.closest("li"); item; item = item.parentElement.closest("li")) item.classList.add("active");
  };
  if (entries.length) {
    addEventListener("scroll", () => { if (!waiting) { waiting = true; requestAnimationFrame(show); } }, {passive: true});
    setTimeout(show, 300);
  }

  const root = new URL(document.documentElement.dataset.content_root || "./", location.href);
  const make = (tag, values, ...children) => {
    const made = Object.assign(document.createElement(tag), values);
    made.append(...children);
    return made;
  };

  // On paper everything is open.
  addEventListener("beforeprint", () => {
    for (const fold of document.querySelectorAll("article details:not([open])")) { fold.open = true; fold.dataset.printed = ""; }
  });
  addEventListener("afterprint", () => {
    for (const fold of document.querySelectorAll("details[data-printed]")) { fold.open = false; delete fold.dataset.printed; }
  });

  // Search: sections of all pages, from the index that Pagefind made. A page opened as a file may not read it and keeps
  // the theme's own search. JOINT stands for the underscore of a name (tools/search_index.py).
  const JOINT = "\ua78f";
  const query = (text) => text.replace(/\b_*[A-Za-z]\w*_\w*/g, (name) => JOINT + name.replaceAll("_", JOINT));
  const shown = (text) => text.replace(/(?<![\w\ua78f])\ua78f/g, "").replaceAll(JOINT, "_");
  const plain = (html) => make("textarea", {innerHTML: html}).value;
  let index;
  const pagefind = () => index ??= import(new URL("pagefind/pagefind.js", root)).then(async (found) => {
    await found.options({excerptLength: 22, baseUrl: root.pathname});
    await found.init();
    return found;
  });

  function hit({url, meta, excerpt}) {
    const text = make("p");
    for (const [i, part] of shown(excerpt).split(/<\/?mark>/).entries())
      text.append(i % 2 ? make("mark", {textContent: plain(part)}) : plain(part));
    const title = shown(meta.title);
    const page = meta.page === title ? "" : meta.page;
    return make("li", {}, make("a", {href: url}, make("strong", {textContent: title}), " ",
      make("span", {className: "hit-page", textContent: page})), text);
  }

  function answersBelow(form) {
    const input = form.querySelector("input[type=search]");
    const status = make("p", {className: "hits-status", role: "status"}), list = make("ol", {className: "hits"});
    form.after(status, list);
    let asked = "";
    const find = async () => {
      const text = input.value.trim();
      if (text === asked) return;
      asked = text;
      if (!text) { status.textContent = ""; list.replaceChildren(); return; }
      try {
        const {results} = await (await pagefind()).search(query(text));
        const hits = await Promise.all(results.slice(0, 15).map((result) => result.data()));
        if (text !== asked) return;
        status.textContent = results.length ? `${results.length} ${results.length === 1 ? "section" : "sections"}` : `Nothing found for “${text}”.`;
        list.replaceChildren(...hits.map(hit));
        status.dataset.asked = text;
      } catch (error) {
        status.textContent = `The search does not answer: ${error.message}`;
      }
    };
    input.addEventListener("input", () => setTimeout(find, 120));
    form.addEventListener("submit", async (event) => { event.preventDefault(); await find(); list.querySelector("a")?.click(); });
    form.parentElement.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
      const stops = [input, ...list.querySelectorAll("a")];
      const next = stops.indexOf(document.activeElement) + (event.key === "ArrowDown" ? 1 : -1);
      if (stops[next]) { event.preventDefault(); stops[next].focus(); }
    });
    list.addEventListener("click", (event) => { if (event.target.closest("a")) form.closest("dialog")?.close(); });
    return find;
  }

  if (location.protocol !== "file:") {
    for (const form of document.querySelectorAll("#pst-search-dialog form")) answersBelow(form);
    const own = document.querySelector("#search-results");
    if (own) {   // the page search.html
      const form = document.querySelector("main form");
      form.querySelector("input").value = new URLSearchParams(location.search).get("q") ?? "";
      own.hidden = true;
      answersBelow(form)();
    }
  }

  // Previews of terms, papers, equations, figures and sections: a pointer that rests on a link, or its focus, shows what
  // it leads to. On a touch screen the first tap shows it and the second follows. Tippy is loaded when first wanted.
  const script = (name) => new Promise((done, failed) => document.head.append(
    make("script", {src: new URL(`frontend/previews/${name}`, root).href, onload: done, onerror: failed})));
  let tippy;
  const previews = () => tippy ??= script("popper.js").then(() => {
    document.head.append(make("link", {rel: "stylesheet", href: new URL("frontend/previews/tippy.css", root).href}));
    return script("tippy.js");
  });
  const pages = {};
  async function pageOf(link) {
    const address = link.href.split("#")[0];
    if (address === location.href.split("#")[0]) return document;
    if (location.protocol === "file:") return null;   // a file may not read another
    pages[address] ??= fetch(address).then((answer) => answer.text()).then((text) => {
      const page = new DOMParser().parseFromString(text, "text/html");
      for (const style of page.querySelectorAll("head > style"))   // the shapes of its equations
        if (style.textContent.includes("mjx-")) document.head.append(document.adoptNode(style));
      return page;
    });
    return pages[address];
  }

  function excerpt(page, id, address) {
    const target = page?.getElementById(id), box = make("div", {className: "preview"});
    if (!target) return null;
    if (target.matches("dt")) {
      let body = target;
      while (body && body.tagName !== "DD") body = body.nextElementSibling;
      box.append(make("strong", {textContent: target.firstChild.textContent}), ...(body?.cloneNode(true).childNodes ?? []));
    } else if (target.matches("section")) {
      const first = [...target.children].find((child) => child.matches("p"));
      const heading = target.querySelector("h1, h2, h3, h4, h5").cloneNode(true);
      for (const extra of heading.querySelectorAll(".section-number, .headerlink")) extra.remove();
      box.append(make("strong", {textContent: heading.textContent}));
      if (first) box.append(first.cloneNode(true));
    } else {
      const whole = target.closest("figure, div.math, div.citation, div.exercise, div.claim")
        ?? (target.matches("span, a") ? target.nextElementSibling : null);
      if (!whole?.matches("figure, div.math, div.citation, div.exercise, div.claim, .cell_output, .cell")) return null;
      box.append(whole.cloneNode(true));
    }
    for (const extra of box.querySelectorAll(".headerlink, .backrefs, script, .label, input, button")) extra.remove();
    for (const inside of box.querySelectorAll("[id], [tabindex]"))
      for (const name of ["id", "tabindex"]) inside.removeAttribute(name);
    for (const image of box.querySelectorAll("img")) image.src = new URL(image.getAttribute("src"), address).href;
    for (const inner of box.querySelectorAll("a")) inner.replaceWith(...inner.childNodes);
    return box;
  }

  const wanted = "article a.reference[href*='#'], article a.internal[href*='#'], article a.claim-link[href*='#']";
  async function preview(link) {
    if (link.previewed) return link.previewed;
    link.previewed = (async () => {
      const [page] = await Promise.all([pageOf(link), previews()]);
      const content = excerpt(page, decodeURIComponent(link.hash.slice(1)), link.href.split("#")[0]);
      return content && window.tippy(link, {content, theme: "book", maxWidth: 460, delay: [150, 0], appendTo: document.body,
        trigger: "mouseenter focus", touch: false, aria: {content: "describedby"}});
    })();
    return link.previewed;
  }
  const start = (event) => {
    const link = event.target.closest?.(wanted);
    if (link && link.origin === location.origin && !link.matches(".headerlink") && event.pointerType !== "touch")
      preview(link).then((made) => { if (made && (link.matches(":hover") || link === document.activeElement)) made.show(); },
        () => {});
  };
  document.addEventListener("pointerover", start);
  document.addEventListener("focusin", start);
  let touched = false;
  document.addEventListener("pointerdown", (event) => { touched = event.pointerType === "touch"; });
  document.addEventListener("click", async (event) => {
    const link = event.target.closest?.(wanted);
    if (!touched || !link || link.origin !== location.origin || link.open) return;
    event.preventDefault();
    const made = await preview(link).catch(() => null);
    if (!made) { location.href = link.href; return; }
    made.setProps({onHide: () => { link.open = false; }});
    made.show();
    link.open = true;
  });
  addEventListener("keydown", (event) => { if (event.key === "Escape") window.tippy?.hideAll?.(); });
})();
