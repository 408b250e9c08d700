// Passkeys: asks the browser, puts its answer into the form, and sends that. Without script the password stays.
(() => {
  "use strict";
  if (!window.PublicKeyCredential) return;

  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (char) => char.charCodeAt(0));
  const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

  // WebAuthn's JSON form of options and answers (Level 3, §5.1.8 to §5.1.10), also for browsers that lack its functions.
  const read = (options) => {
    const known = (one) => ({ ...one, id: bytes(one.id) });
    const read = { ...options, challenge: bytes(options.challenge) };
    if (options.user) read.user = { ...options.user, id: bytes(options.user.id) };
    if (options.excludeCredentials) read.excludeCredentials = options.excludeCredentials.map(known);
    if (options.allowCredentials) read.allowCredentials = options.allowCredentials.map(known);
    return read;
  };
  const written = (credential) => {
    const response = {};
    for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
      if (credential.response[name]) response[name] = text(credential.response[name]);
    }
    return JSON.stringify({
      id: credential.id, rawId: text(credential.rawId), type: credential.type, response,
      authenticatorAttachment: credential.authenticatorAttachment ?? undefined,
      clientExtensionResults: credential.getClientExtensionResults(),
    });
  };

  for (const note of document.querySelectorAll("[data-without-script]")) note.hidden = true;
  for (const form of document.querySelectorAll("form[data-passkey]")) {
    const trouble = form.querySelector("[data-trouble]");
    form.closest("[data-needs-script]").hidden = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      trouble.hidden = true;
      try {
        const publicKey = read(JSON.parse(form.dataset.options));
        const credential = await navigator.credentials[form.dataset.passkey]({ publicKey });
        form.elements.response.value = written(credential);
        form.submit();
      } catch (error) {
        trouble.textContent = error.name === "InvalidStateError" ? trouble.dataset.known : trouble.dataset.text;
        trouble.hidden = false;
      }
    });
  }
})();
