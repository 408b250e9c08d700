// A stock client of another language: panva's openid-client, used as its documentation says. It knows nothing of the server
// but the issuer. One line of JSON comes in with who it is; it says where the browser must go, and at the end what it got.
import { createInterface } from "node:readline";
import * as client from "openid-client";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const hear = async () => JSON.parse((await lines.next()).value);
const say = (what) => process.stdout.write(JSON.stringify(what) + "\n");

const { issuer, app, agent, api, redirect_uri } = await hear();
const insecure = { execute: [client.allowInsecureRequests] }; // http on a loopback address

async function pkce() {
  const verifier = client.randomPKCECodeVerifier();
  const challenge = await client.calculatePKCECodeChallenge(verifier);
  return { verifier, parameters: { redirect_uri, code_challenge: challenge, code_challenge_method: "S256", state: client.randomState() } };
}

async function browse(url) {
  say({ go: url.href });
  return new URL((await hear()).came);
}

const refused = async (doing) => {
  try {
    await doing();
  } catch (error) {
    return error.error ?? error.cause?.error ?? String(error);
  }
  return null;
};

// The API, with the credential it was given: plain and signed.
const plain = await client.discovery(new URL(issuer), api.client_id, undefined, client.ClientSecretBasic(api.client_secret), insecure);
const signing = { introspection_signed_response_alg: "ES256" };
const signed = await client.discovery(new URL(issuer), api.client_id, signing, client.ClientSecretBasic(api.client_secret), insecure);
const introspected = async (token) => [await client.tokenIntrospection(plain, token), await client.tokenIntrospection(signed, token)];

async function application() {
  const config = await client.discovery(new URL(issuer), app.client_id, undefined, client.ClientSecretBasic(app.client_secret), insecure);
  const { verifier, parameters } = await pkce();
  const nonce = client.randomNonce();
  const scope = `openid profile offline_access ${api.scope}`;
  const url = client.buildAuthorizationUrl(config, { ...parameters, scope, nonce, resource: api.uri, prompt: "consent" });
  const came = await browse(url);
  const checks = { pkceCodeVerifier: verifier, expectedState: parameters.state, expectedNonce: nonce, idTokenExpected: true, maxAge: 3600 };
  const given = await client.authorizationCodeGrant(config, came, checks);
  const before = await introspected(given.access_token);
  const next = await client.refreshTokenGrant(config, given.refresh_token, { resource: api.uri });
  const who = await client.refreshTokenGrant(config, next.refresh_token, { resource: config.serverMetadata().userinfo_endpoint });
  const userinfo = await client.fetchUserInfo(config, who.access_token, given.claims().sub);
  await client.tokenRevocation(config, who.refresh_token);
  return {
    scope: given.scope,
    claims: given.claims(),
    userinfo,
    before,
    rotated: next.refresh_token !== given.refresh_token,
    after: await introspected(next.access_token),
    again: await refused(() => client.refreshTokenGrant(config, who.refresh_token)),
    goodbye: client.buildEndSessionUrl(config, { id_token_hint: given.id_token }).href,
  };
}

async function acting() {
  const key = { key: await crypto.subtle.importKey("jwk", agent.key, { name: "ECDSA", namedCurve: "P-256" }, false, ["sign"]), kid: agent.key.kid };
  const oauth = { ...insecure, algorithm: "oauth2" };
  const config = await client.discovery(new URL(issuer), agent.client_id, undefined, client.PrivateKeyJwt(key), oauth);
  const own = await client.clientCredentialsGrant(config);
  const { verifier, parameters } = await pkce();
  const url = await client.buildAuthorizationUrlWithPAR(config, { ...parameters, scope: `offline_access ${api.scope}`, resource: api.uri });
  const came = await browse(url);
  const given = await client.authorizationCodeGrant(config, came, { pkceCodeVerifier: verifier, expectedState: parameters.state });
  const exchanged = await client.genericGrantRequest(config, "urn:ietf:params:oauth:grant-type:token-exchange", {
    subject_token: given.access_token,
    subject_token_type: "urn:ietf:params:oauth:token-type:access_token",
    actor_token: own.access_token,
    actor_token_type: "urn:ietf:params:oauth:token-type:access_token",
    resource: api.uri,
  });
  const before = await introspected(exchanged.access_token);
  const next = await client.refreshTokenGrant(config, given.refresh_token);
  await client.tokenRevocation(config, exchanged.access_token);
  const revoked = await introspected(exchanged.access_token);
  const beside = await introspected(next.access_token);
  await client.tokenRevocation(config, next.refresh_token);
  return {
    pushed: [...url.searchParams.keys()].sort(),
    kind: exchanged.issued_token_type,
    before,
    revoked,
    beside,
    after: await introspected(next.access_token),
    again: await refused(() => client.refreshTokenGrant(config, next.refresh_token)),
  };
}

// With a key of its own in every request (DPoP), at a server that demands nonces.
async function keyed() {
  const key = { key: await crypto.subtle.importKey("jwk", agent.key, { name: "ECDSA", namedCurve: "P-256" }, false, ["sign"]), kid: agent.key.kid };
  const oauth = { ...insecure, algorithm: "oauth2" };
  const config = await client.discovery(new URL(issuer), agent.client_id, undefined, client.PrivateKeyJwt(key), oauth);
  const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair("ES256"));
  const own = await client.clientCredentialsGrant(config, {}, { DPoP });
  const { verifier, parameters } = await pkce();
  const asked = { ...parameters, scope: `offline_access ${api.scope}`, resource: api.uri };
  const came = await browse(await client.buildAuthorizationUrlWithPAR(config, asked, { DPoP }));
  const checks = { pkceCodeVerifier: verifier, expectedState: parameters.state };
  const given = await client.authorizationCodeGrant(config, came, checks, undefined, { DPoP });
  const exchange = (more, options) =>
    client.genericGrantRequest(
      config,
      "urn:ietf:params:oauth:grant-type:token-exchange",
      { subject_token: given.access_token, subject_token_type: "urn:ietf:params:oauth:token-type:access_token", ...more },
      options,
    );
  const exchanged = await exchange({ resource: api.uri }, { DPoP });
  const handed = await exchange({ audience: agent.hands_to }, { DPoP });
  const next = await client.refreshTokenGrant(config, given.refresh_token, undefined, { DPoP });
  return {
    jkt: await DPoP.calculateThumbprint(),
    kinds: [own, given, exchanged, next].map((token) => token.token_type),
    handed: [handed.token_type, handed.issued_token_type],
    tokens: [await introspected(exchanged.access_token), await introspected(next.access_token)],
    stripped: await refused(() => exchange({ resource: api.uri })),
    stolen: await refused(() => client.refreshTokenGrant(config, next.refresh_token)),
  };
}

say({ application: await application(), acting: await acting(), keyed: await keyed() });
process.exit(0);
