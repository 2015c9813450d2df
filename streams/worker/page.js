// Exchanges the parts that have changed, and says once when nobody answers.
"use strict";
const live = document.getElementById("live");
const EVERY_MS = live.dataset.everyS * 1000;
const UPDATES = `Updates every ${live.dataset.everyS} seconds.`;
const pause = document.getElementById("pause");
const verdict = document.getElementById("verdict");
let paused = false;
let silentSince = null;

function say(text) {
  if (live.textContent !== text) live.textContent = text;
}

function exchange(page) {
  for (const part of document.querySelectorAll("[data-part]")) {
    const fresh = page.getElementById(part.id);
    if (fresh && fresh.innerHTML !== part.innerHTML) part.innerHTML = fresh.innerHTML;
  }
  verdict.className = page.getElementById("verdict").className;
  document.title = page.title;
}

// What was green when the worker was last heard of says nothing of now.
function mourn() {
  silentSince = silentSince || new Date().toLocaleTimeString();
  verdict.className = "verdict";
  document.title = "No answer";
  say("");
  const state = document.querySelector("#state strong");
  const words = "No answer since " + silentSince + ": what follows is of then";
  if (state.textContent !== words) state.textContent = words;
}

async function renew() {
  if (!paused && !document.hidden) {
    try {
      const answer = await fetch("/", {cache: "no-store", signal: AbortSignal.timeout(EVERY_MS)});
      if (!answer.ok) throw new Error(answer.status);
      exchange(new DOMParser().parseFromString(await answer.text(), "text/html"));
      silentSince = null;
      say(UPDATES);
    } catch (error) {
      mourn();
    }
  }
  setTimeout(renew, EVERY_MS);
}

pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.textContent = paused ? "Go on updating" : "Pause updating";
  say(paused ? "Paused." : UPDATES);
});
say(UPDATES);
setTimeout(renew, EVERY_MS);
