// What is done in somebody's name shows by itself. Everything on these pages works without this file.
(() => {
  "use strict";

  // The server says that something is new, where it can; the page asks what. While it listens, it asks by itself once a minute only.
  const OFTEN = 60000;
  let stream = null;
  let told = true;
  let asked = 0;

  const ask = () => {
    told = true;
    const live = document.getElementById("live");
    if (live && window.htmx) window.htmx.trigger(live, "news");
  };
  const listen = () => {
    if (stream || document.hidden || !window.EventSource || !document.getElementById("live")) return;
    stream = new EventSource("/my/agents/events");
    stream.onopen = ask;
    stream.onmessage = ask;
  };
  const listening = () => stream !== null && stream.readyState === EventSource.OPEN;

  // Nobody is looking: nothing is held open, nothing is asked.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && stream) {
      stream.close();
      stream = null;
    } else if (!document.hidden) {
      listen();
      ask();
    }
  });
  document.addEventListener("htmx:before:request", (event) => {
    const idle = listening() && !told && Date.now() - asked < OFTEN;
    if (document.hidden || idle) {
      event.preventDefault();
      return;
    }
    told = false;
    asked = Date.now();
  });

  // The server cannot be reached, or will not say: the page must not look as if nothing happened.
  const late = (yes) => document.querySelectorAll("[data-late]").forEach((note) => { note.hidden = !yes; });
  document.addEventListener("htmx:error", () => { told = true; late(true); });
  document.addEventListener("htmx:after:request", (event) => {
    const status = event.detail?.ctx?.response?.status;
    if (status) late(status >= 400);
    if (status >= 400) told = true;
  });

  document.addEventListener("DOMContentLoaded", listen);
  listen();
})();
