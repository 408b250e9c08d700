// The peer: oidc-provider as its documentation advises for production, its state in Redis, everything signed with ES256.
// PORT, REDIS (path of a Unix socket), SETUP (JSON: the issuer's private JWK, the callers, the two resources).
import fs from 'node:fs';
import Redis from 'ioredis';
import { Provider, errors } from 'oidc-provider';

const { PORT, REDIS, SETUP } = process.env;
const setup = JSON.parse(fs.readFileSync(SETUP, 'utf8'));
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const LIFETIME = 600;

// Commands of one tick share a write: the best that ioredis can do here.
const redis = new Redis({ path: REDIS, keyPrefix: 'oidc:', enableAutoPipelining: true });

// JSON under a key with an expiry, as in the project's own example adapter. What hangs on grants, user codes and
// uids is never asked for here.
class RedisAdapter {
  constructor(name) { this.name = name; }
  key(id) { return `${this.name}:${id}`; }
  async upsert(id, payload, seconds) { await redis.set(this.key(id), JSON.stringify(payload), 'EX', seconds); }
  async find(id) {
    const found = await redis.get(this.key(id));
    return found ? JSON.parse(found) : undefined;
  }
  async destroy(id) { await redis.del(this.key(id)); }
  async consume() {}
  async revokeByGrantId() {}
  async findByUid() {}
  async findByUserCode() {}
}

const resourceServer = (uri) => ({
  audience: uri,
  scope: 'read write',
  accessTokenTTL: LIFETIME,
  ...(uri === setup.resource
    ? { accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } } }
    : { accessTokenFormat: 'opaque' }),
});

const provider = new Provider(`http://127.0.0.1:${PORT}`, {
  adapter: RedisAdapter,
  jwks: { keys: [setup.key] },
  clients: setup.callers.map((caller) => ({
    redirect_uris: [], response_types: [], grant_types: ['client_credentials', EXCHANGE], scope: 'read write', ...caller,
  })),
  scopes: ['read', 'write'],
  clientAuthMethods: ['client_secret_basic', 'private_key_jwt'],
  clientDefaults: { id_token_signed_response_alg: 'ES256' },
  enabledJWA: { idTokenSigningAlgValues: ['ES256'], clientAuthSigningAlgValues: ['ES256'] },
  ttl: { ClientCredentials: LIFETIME, AccessToken: LIFETIME },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      useGrantedResource: () => true,
      getResourceServerInfo: (_ctx, uri) => resourceServer(uri),
    },
  },
});

// RFC 8693 is not built in. This is the least that can be called an exchange: one look-up of an opaque subject token,
// one signed JWT with `act`. No consent, chain, policy, liveness or record.
provider.registerGrantType(EXCHANGE, async (ctx) => {
  const { params, client } = ctx.oidc;
  const subject = await provider.ClientCredentials.find(params.subject_token);
  if (!subject || subject.isExpired) throw new errors.InvalidGrant('subject_token');
  const token = new provider.ClientCredentials({
    client, scope: params.scope, extra: { sub: subject.clientId, act: { sub: client.clientId } },
  });
  token.resourceServer = new provider.ResourceServer(params.resource, resourceServer(params.resource));
  ctx.body = {
    access_token: await token.save(),
    issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
    token_type: 'Bearer',
    expires_in: LIFETIME,
    scope: params.scope,
  };
}, ['resource', 'scope', 'subject_token', 'subject_token_type'], []);

provider.on('server_error', (_ctx, error) => console.error(error));
provider.listen(Number(PORT), '127.0.0.1');
