<?php
// Invalidation over real HTTP, by both ways PHP has: the curl extension (Guzzle and Symfony's HttpClient use it) and streams.

declare(strict_types=1);

/** The site whose pages are meant; the edge's own address is never the Host. */
const SITE = 'www.example.com';

/**
 * @param string $what tags (gone now), soft (stale now) or url
 * @return array{int, string} status and body of the edge's answer
 */
function invalidate(string $transport, string $edge, string $what, string $value): array
{
    [$method, $path, $headers] = match ($what) {
        'tags' => ['PURGEKEYS', '/', ["xkey-purge: $value"]],
        'soft' => ['PURGEKEYS', '/', ["xkey-softpurge: $value"]],
        'url' => ['PURGE', $value, []],
    };
    $headers = ['Host: ' . SITE, ...$headers, 'Connection: Close'];
    return match ($transport) {
        'curl' => by_curl($method, $edge . $path, $headers),
        'stream' => by_stream($method, $edge . $path, $headers),
    };
}

function by_curl(string $method, string $url, array $headers): array
{
    $curl = curl_init($url);
    curl_setopt_array($curl, [
        CURLOPT_CUSTOMREQUEST => $method,
        CURLOPT_HTTPHEADER => $headers,
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_TIMEOUT => 10,
    ]);
    $body = curl_exec($curl);
    if ($body === false) {
        throw new RuntimeException(curl_error($curl));
    }
    return [curl_getinfo($curl, CURLINFO_RESPONSE_CODE), $body];
}

function by_stream(string $method, string $url, array $headers): array
{
    $options = ['method' => $method, 'header' => $headers, 'ignore_errors' => true, 'timeout' => 10];
    $body = file_get_contents($url, false, stream_context_create(['http' => $options]));
    if ($body === false) {
        throw new RuntimeException("no answer from $url");
    }
    preg_match('/^HTTP\/\S+ (\d+)/', $http_response_header[0], $match);
    return [(int) $match[1], $body];
}
